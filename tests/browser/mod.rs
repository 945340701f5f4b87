//! The status page as an operator's browser has it.
//!
//! `driver` speaks WebDriver to a Chromium without a screen; `page` looks. Left out, with a line that says so, where
//! there is no Chromium.

mod driver;
mod page;
