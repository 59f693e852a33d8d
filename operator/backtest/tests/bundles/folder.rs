//! The folder of recorded bundles.

use std::path::PathBuf;

use flate2::read::GzDecoder;
use serde_json::Value;
use weir_backtest::bundle::Bundle;

/// Names the folder.
const VARIABLE: &str = "WEIR_BACKTEST_BUNDLES";

/// A bundle and the text it was read from, of which the reader drops the reference.
pub struct Recorded {
    pub name: String,
    pub bundle: Bundle,
    pub text: Value,
}

/// Every bundle of the folder, in the order of their names. Panics when there is none: a check that checks nothing passes nobody.
pub fn bundles() -> Vec<Recorded> {
    let folder = std::env::var_os(VARIABLE).map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| {
        panic!("set {VARIABLE} to the folder of the recorded bundles (*.json.gz)")
    });
    let entries = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{VARIABLE} names {}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".json.gz"))
        .collect();
    paths.sort();
    assert!(
        !paths.is_empty(),
        "{VARIABLE} names {}, which holds no *.json.gz",
        folder.display()
    );
    paths.into_iter().map(read).collect()
}

fn read(path: PathBuf) -> Recorded {
    let shown = path.display();
    let bundle = Bundle::read(&path).unwrap_or_else(|error| panic!("{shown}: {error}"));
    let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{shown}: {error}"));
    let text = serde_json::from_reader(std::io::BufReader::new(GzDecoder::new(file)));
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().replace(".json.gz", ""));
    Recorded {
        name: name.unwrap_or_default(),
        text: text.unwrap_or_else(|error| panic!("{shown}: {error}")),
        bundle,
    }
}
