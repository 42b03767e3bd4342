//! Names of tiles and entry bundles: each has one spelling, and a bundle's entries are its bytes.
#![no_main]

use common::tile::{TilePath, entries, parse_index, push_entry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = core::str::from_utf8(bytes) {
        if let Some(path) = TilePath::parse(text) {
            assert_eq!(path.to_string(), text, "a resource has one name");
        }
        if let Some(index) = parse_index(text) {
            assert_eq!(common::tile::index_path(index), text, "an index has one spelling");
        }
    }
    if let Ok(read) = entries(bytes).collect::<Result<Vec<_>, _>>() {
        let mut again = Vec::new();
        for (_, entry) in read {
            push_entry(&mut again, entry).expect("read from a 16-bit length");
        }
        assert_eq!(again, bytes, "a bundle is its entries");
    }
});
