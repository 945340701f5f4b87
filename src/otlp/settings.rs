//! Where spans go, by the environment variables that OpenTelemetry has defined for every program. They are no settings of
//! the gateway's own: whoever runs a collector has set them for all services already.
//!
//! The environment is an argument. Promised: what the headers say is in no log and no error.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

/// Where spans go, and what is said of their sender.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, or `OTEL_EXPORTER_OTLP_ENDPOINT` with `/v1/traces` behind it.
    pub endpoint: Uri,
    /// `OTEL_EXPORTER_OTLP_HEADERS`; marked sensitive, for that is where a collector's key stands.
    pub headers: HeaderMap,
    /// `OTEL_EXPORTER_OTLP_TIMEOUT`, of one export.
    pub timeout: Duration,
    /// `OTEL_RESOURCE_ATTRIBUTES`, and `service.name` from `OTEL_SERVICE_NAME`.
    pub resource: BTreeMap<String, String>,
}

const TIMEOUT: Duration = Duration::from_secs(10);

impl Settings {
    /// Reads the variables; `None` where no endpoint is named, or they say that nothing is to be exported.
    ///
    /// # Errors
    /// The variable that cannot be used, and why, without its value.
    pub fn from_env(env: &BTreeMap<String, String>) -> Result<Option<Self>, String> {
        // One that is set and empty counts as not set (OpenTelemetry, environment variables).
        let get = |name: &str| env.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
        let of_traces = |name: &str| {
            let own = format!("OTEL_EXPORTER_OTLP_TRACES_{name}");
            let general = format!("OTEL_EXPORTER_OTLP_{name}");
            get(&own).map(|value| (own, value)).or_else(|| get(&general).map(|value| (general, value)))
        };
        let off = get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || get("OTEL_TRACES_EXPORTER") == Some("none");
        let Some((name, endpoint)) = of_traces("ENDPOINT").filter(|_| !off) else { return Ok(None) };
        let general = name == "OTEL_EXPORTER_OTLP_ENDPOINT";
        let path = if general { "/v1/traces" } else { "" };
        let endpoint = format!("{}{path}", if general { endpoint.trim_end_matches('/') } else { endpoint });
        let endpoint: Uri = endpoint.parse().map_err(|_| format!("{name}: no URL"))?;
        if !matches!(endpoint.scheme_str(), Some("http" | "https")) || endpoint.host().is_none() {
            return Err(format!("{name}: neither an http nor an https URL"));
        }
        if let Some((name, _)) = of_traces("PROTOCOL").filter(|(_, protocol)| *protocol != "http/protobuf") {
            return Err(format!("{name}: only http/protobuf is spoken here"));
        }
        let timeout = match of_traces("TIMEOUT") {
            Some((name, millis)) => match millis.parse() {
                Ok(millis @ 1..) => Duration::from_millis(millis),
                Ok(0) | Err(_) => return Err(format!("{name}: no number of milliseconds")),
            },
            None => TIMEOUT,
        };
        let headers = match of_traces("HEADERS") {
            Some((name, headers)) => read_headers(headers).ok_or(format!("{name}: not name=value,…"))?,
            None => HeaderMap::new(),
        };
        let mut resource = match get("OTEL_RESOURCE_ATTRIBUTES") {
            Some(list) => pairs(list).ok_or("OTEL_RESOURCE_ATTRIBUTES: not name=value,…")?,
            None => Vec::new(),
        }
        .into_iter()
        .collect::<BTreeMap<_, _>>();
        if let Some(service) = get("OTEL_SERVICE_NAME") {
            resource.insert("service.name".to_owned(), service.to_owned());
        }
        resource.entry("service.name".to_owned()).or_insert_with(|| "callgate".to_owned());
        Ok(Some(Self { endpoint, headers, timeout, resource }))
    }
}

/// `name=value,name=value`, the values percent-encoded, as in W3C Baggage.
fn pairs(list: &str) -> Option<Vec<(String, String)>> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        (!name.trim().is_empty()).then(|| (name.trim().to_owned(), value.into_owned()))
    };
    list.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

fn read_headers(list: &str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(list)? {
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(env: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::from_env(&env)
    }

    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

    #[test]
    fn nothing_is_exported_unless_an_endpoint_is_named() {
        let table: &[&[(&str, &str)]] = &[
            &[],
            &[(ENDPOINT, " ")],
            &[("OTEL_SERVICE_NAME", "x")],
            &[(ENDPOINT, "http://h:4318"), ("OTEL_SDK_DISABLED", "TRUE")],
            &[(ENDPOINT, "http://h:4318"), ("OTEL_TRACES_EXPORTER", "none")],
        ];
        for env in table {
            assert!(read(env).expect("read").is_none(), "{env:?}");
        }
    }

    #[test]
    fn the_path_is_added_to_the_general_endpoint_alone() {
        let endpoint = |env: &[_]| read(env).expect("read").expect("some").endpoint.to_string();
        assert_eq!(endpoint(&[(ENDPOINT, "http://h:4318")]), "http://h:4318/v1/traces");
        assert_eq!(endpoint(&[(ENDPOINT, "https://h/otlp/")]), "https://h/otlp/v1/traces");
        let own = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        assert_eq!(endpoint(&[(ENDPOINT, "http://g"), (own, "http://h/in")]), "http://h/in");
    }

    #[test]
    fn what_cannot_be_used_is_named_without_its_value() {
        for (name, value) in [
            (ENDPOINT, "collector:4318"),
            (ENDPOINT, "grpc://secret"),
            (ENDPOINT, "not a secret"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=secret"),
            ("OTEL_RESOURCE_ATTRIBUTES", "=secret"),
        ] {
            let error = read(&[(ENDPOINT, "http://h"), (name, value)]).expect_err(name);
            assert!(error.starts_with(name) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn headers_and_resource_are_decoded_and_headers_are_not_shown() {
        let env = [
            (ENDPOINT, "http://h"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret, x-team = a"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=prod"),
            ("OTEL_SERVICE_NAME", "calls"),
        ];
        let settings = read(&env).expect("read").expect("some");
        assert_eq!(settings.headers["authorization"], "Bearer secret");
        assert_eq!(settings.headers["x-team"], "a");
        assert_eq!(settings.resource["service.name"], "calls");
        assert_eq!(settings.resource["deployment.environment.name"], "prod");
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
