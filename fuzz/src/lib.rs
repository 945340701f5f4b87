//! What the fuzz targets do with their bytes: each puts them in where bytes of others come in, and holds what comes out
//! to what is promised of it.
//!
//! Plain code for a stable toolchain, which knows nothing of libFuzzer: `fuzz_targets/` feeds it under cargo-fuzz, and
//! the tests of the repository play `corpus/` with it. A broken promise is a panic.
//!
//! Where there is something to compare with it is a plain reading of the same bytes, written here from the RFCs and from
//! what the gateway says of itself, slow and without its code: [`record`] has one of JSON, [`caller`] and [`vendor`] of
//! HTTP/1.1, [`disk`] of the layout.

mod cache_control;
mod caller;
mod disk;
mod gateway;
mod json;
mod prefer;
mod record;
mod retry_after;
mod route;
mod settings;
mod vendor;
mod wire;

pub use cache_control::cache_control;
pub use caller::caller;
pub use disk::disk;
pub use prefer::prefer;
pub use record::record;
pub use retry_after::retry_after;
pub use route::route;
pub use settings::settings;
pub use vendor::vendor;

/// A target, by the name of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 9] = [
    ("cache_control", cache_control),
    ("caller", caller),
    ("disk", disk),
    ("prefer", prefer),
    ("record", record),
    ("retry_after", retry_after),
    ("route", route),
    ("settings", settings),
    ("vendor", vendor),
];
