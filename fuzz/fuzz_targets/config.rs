//! Any configuration file: settings within their ranges, or a sentence. What was read can be written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_admin::TcpAccess;
use palisade_assembly::config::{Config, Cores};

const CORES: [usize; 4] = [0, 1, 2, 5];

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let config = match Config::parse(text) {
        Ok(config) => config,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let again = Config::parse(&config.to_toml()).expect("what was written can be read");
    assert_eq!(again, config);
    assert_eq!(config.clone().or(Config::default()), config);
    match config.resolve(&Cores::plain(&CORES)) {
        Ok(settings) => {
            assert!(!settings.cores.is_empty() && settings.cores.iter().all(|core| CORES.contains(core)));
            assert!((64..=65536).contains(&settings.slots) && settings.pool_buffers > 0);
            if let Some(door) = settings.admin.tcp {
                assert!(door.is_loopback() || door.access != TcpAccess::Nothing);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
