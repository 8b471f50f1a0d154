//! Parameters, buffers and constants: raw bytes beside a table of their shapes.

use super::{args, items, parse, text};
use crate::frontend::torch::archive::Archive;
use crate::frontend::torch::lower::TensorData;
use crate::hash::HashMap;
use crate::{Result, bail, err};
use serde_json::Value as Json;

/// The tables of an archive.
pub struct Weights<'a> {
    archive: &'a Archive,
    /// Folder and table, for weights and constants.
    tables: Vec<(String, Json)>,
    /// What has been read, so that tied weights have one key.
    keys: HashMap<String, String>,
}

impl<'a> Weights<'a> {
    /// Reads the tables.
    pub fn open(archive: &'a Archive, root: &str) -> Result<Self> {
        let mut tables = Vec::new();
        for (folder, table) in [("weights", "model_weights_config.json"), ("constants", "model_constants_config.json")]
        {
            let folder = format!("{root}data/{folder}/");
            let path = format!("{folder}{table}");
            if let Some(bytes) = archive.get(&path)? {
                let mut json = parse(&bytes, table)?;
                tables.push((folder, json.get_mut("config").map(Json::take).unwrap_or_default()));
            }
        }
        Ok(Weights { archive, tables, keys: HashMap::default() })
    }

    /// The tensor of that name, with the key that all tensors tied to it have.
    pub fn get(&mut self, name: &str) -> Result<(String, TensorData)> {
        let found = self.tables.iter().find_map(|(folder, t)| t.get(name).map(|e| (folder, e)));
        let Some((folder, entry)) = found else {
            bail!(InvalidFile, "the archive lists no tensor '{name}': it is incomplete, save it again")
        };
        if entry["use_pickle"].as_bool() == Some(true) {
            bail!(
                Unsupported,
                "'{name}' is stored as a pickle, which would have to be executed; store a plain tensor instead"
            );
        }
        let path = text(&entry["path_name"])?;
        let meta = &entry["tensor_meta"];
        let numbers = |what: &str| -> Result<Vec<i64>> {
            let wrong = || err!(InvalidFile, "tensor '{name}' has no valid {what}");
            items(&meta[what]).iter().map(|v| v["as_int"].as_i64().ok_or_else(wrong)).collect()
        };
        let data = TensorData {
            dtype: args::scalar_type(&meta["dtype"])?,
            sizes: numbers("sizes")?,
            strides: numbers("strides")?,
            offset: meta["storage_offset"]["as_int"].as_i64().unwrap_or(0),
            storage: self.archive.need(&format!("{folder}{path}"))?,
        };
        let same = format!("{folder}{path} {:?} {:?} {:?} {}", data.dtype, data.sizes, data.strides, data.offset);
        let key = self.keys.entry(same).or_insert_with(|| name.to_owned()).clone();
        Ok((key, data))
    }
}
