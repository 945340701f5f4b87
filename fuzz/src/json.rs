//! A plain reading of JSON (RFC 8259): nothing is skipped, members keep their order, and two of a name stay two.
//!
//! For what nests no deeper than the stack is: ask [`depth`] first.

/// A value.
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Flag,
    /// What a number comes to; infinite where that is too much.
    Number(f64),
    /// A text, or none where its escapes make half of a surrogate pair.
    Text(Option<String>),
    /// Elements.
    Array(Vec<Json>),
    /// Members.
    Object(Vec<(Option<String>, Json)>),
}

impl Json {
    /// Whether it holds, at any depth, what is JSON by its grammar and still no value: half of a surrogate pair, or a
    /// number beyond all range.
    pub fn is_odd(&self) -> bool {
        match self {
            Self::Null | Self::Flag => false,
            Self::Number(number) => number.is_infinite(),
            Self::Text(text) => text.is_none(),
            Self::Array(elements) => elements.iter().any(Self::is_odd),
            Self::Object(members) => members.iter().any(|(name, value)| name.is_none() || value.is_odd()),
        }
    }

    /// The values of this name in an object.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        let members = if let Self::Object(members) = self { members.as_slice() } else { &[] };
        members.iter().filter(move |(own, _)| own.as_deref() == Some(name)).map(|(_, value)| value)
    }
}

/// How deep brackets and braces nest, were it JSON or not.
pub fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut within, mut escaped) = (0usize, 0, false, false);
    for byte in text.bytes() {
        if escaped {
            escaped = false;
        } else if within {
            within = byte != b'"';
            escaped = byte == b'\\';
        } else {
            match byte {
                b'"' => within = true,
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            deepest = deepest.max(depth);
        }
    }
    deepest
}

/// Reads a text that is one value, and nothing else.
pub fn parse(text: &str) -> Option<Json> {
    let mut reader = Reader(text);
    let value = reader.value()?;
    reader.space();
    reader.0.is_empty().then_some(value)
}

struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    /// Takes this, if it comes next.
    fn take(&mut self, what: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(what)?;
        Some(())
    }

    /// The same behind white space.
    fn token(&mut self, what: &str) -> Option<()> {
        self.space();
        self.take(what)
    }

    fn value(&mut self) -> Option<Json> {
        self.space();
        match self.0.as_bytes().first()? {
            b'n' => self.take("null").map(|()| Json::Null),
            b't' => self.take("true").map(|()| Json::Flag),
            b'f' => self.take("false").map(|()| Json::Flag),
            b'"' => self.text().map(Json::Text),
            b'[' => self.array(),
            b'{' => self.object(),
            _ => self.number(),
        }
    }

    fn array(&mut self) -> Option<Json> {
        self.take("[")?;
        let mut elements = Vec::new();
        if self.token("]").is_some() {
            return Some(Json::Array(elements));
        }
        loop {
            elements.push(self.value()?);
            if self.token("]").is_some() {
                return Some(Json::Array(elements));
            }
            self.token(",")?;
        }
    }

    fn object(&mut self) -> Option<Json> {
        self.take("{")?;
        let mut members = Vec::new();
        if self.token("}").is_some() {
            return Some(Json::Object(members));
        }
        loop {
            self.space();
            let name = self.text()?;
            self.token(":")?;
            members.push((name, self.value()?));
            if self.token("}").is_some() {
                return Some(Json::Object(members));
            }
            self.token(",")?;
        }
    }

    /// A string; `Some(None)` where it is one and no text.
    fn text(&mut self) -> Option<Option<String>> {
        self.take("\"")?;
        // In UTF-16 units, as escapes are counted.
        let mut units: Vec<u16> = Vec::new();
        loop {
            let next = self.0.chars().next()?;
            self.0 = &self.0[next.len_utf8()..];
            match next {
                '"' => return Some(String::from_utf16(&units).ok()),
                '\0'..='\u{1f}' => return None,
                '\\' => units.push(self.escape()?),
                _ => units.extend_from_slice(next.encode_utf16(&mut [0; 2])),
            }
        }
    }

    fn escape(&mut self) -> Option<u16> {
        let escaped = self.0.chars().next()?;
        self.0 = &self.0[escaped.len_utf8()..];
        Some(match escaped {
            '"' | '\\' | '/' => u16::try_from(u32::from(escaped)).ok()?,
            'b' => 8,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'u' => {
                let digits = self.0.get(..4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
                self.0 = &self.0[4..];
                u16::from_str_radix(digits, 16).ok()?
            }
            _ => return None,
        })
    }

    fn number(&mut self) -> Option<Json> {
        let whole = self.0;
        let _ = self.take("-");
        if self.take("0").is_none() {
            self.digits()?;
        }
        if self.take(".").is_some() {
            self.digits()?;
        }
        if self.take("e").or_else(|| self.take("E")).is_some() {
            let _ = self.take("+").or_else(|| self.take("-"));
            self.digits()?;
        }
        whole[..whole.len() - self.0.len()].parse().ok().map(Json::Number)
    }

    /// One or more.
    fn digits(&mut self) -> Option<()> {
        let rest = self.0.trim_start_matches(|c: char| c.is_ascii_digit());
        let any = rest.len() < self.0.len();
        self.0 = rest;
        any.then_some(())
    }
}
