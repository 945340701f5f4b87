//! The status page as an operator's browser has it.
//!
//! `driver` speaks WebDriver to a Chromium without a screen; `page` looks at what is always there, `shown` at what the
//! page shows while something is going on. Left out, with a line that says so, where there is no Chromium.

mod driver;
mod page;
mod shown;
