//! One small file a command.

pub mod check;
