//! Writes the CustomResourceDefinitions, one YAML file each, into the folder given.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err("usage: weir-crdgen FOLDER".into());
    };
    std::fs::create_dir_all(&folder)?;
    for crd in weir_crds::all() {
        let file = folder.join(format!("{}.yaml", crd.spec.names.plural));
        std::fs::write(&file, serde_yaml_ng::to_string(&crd)?)?;
        println!("{}", file.display());
    }
    Ok(())
}
