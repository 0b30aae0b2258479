//! The block of a module in the configuration file: how its workers treat their tasks.
//!
//! The defaults are those of the specification but for `max_retries`, which is 10 instead of 3: ten
//! tries last for minutes, three for seconds.

use serde::Deserialize;

/// Configuration block of a module.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct ModuleConfig {
    /// True if the module takes work.
    pub enabled: bool,
    /// Tasks claimed at once.
    pub batch_size: u32,
    /// Further tries of a task after its first.
    pub max_retries: u32,
    /// Seconds without a sign of progress after which a batch is given up.
    pub timeout: u64,
    /// Seconds that a task waits for something that is away or busy before it fails; waiting costs
    /// no try.
    pub patience: u64,
    /// Settings that only this module understands; it checks the keys itself.
    pub settings: toml::Table,
}

impl Default for ModuleConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            batch_size: 100,
            max_retries: 10,
            timeout: 300,
            patience: 3_600,
            settings: toml::Table::new(),
        }
    }
}
