//! Tensor data that stands outside the model file.

use super::External;
use crate::hash::HashMap;
use crate::sys::map;
use crate::{Error, Result, bail, err};
use bytes::Bytes;
use std::path::{Component, Path, PathBuf};

/// Finds external data; opens and maps each file once.
pub struct Store<'a> {
    source: External<'a>,
    map_from: u64,
    /// The folder with its symbolic links resolved, once it is needed.
    root: Option<PathBuf>,
    /// Files by resolved path.
    files: HashMap<PathBuf, Bytes>,
    /// Resolved paths by location.
    paths: HashMap<String, PathBuf>,
}

/// Where one tensor's data is, as its `external_data` entries say.
#[derive(Debug, Default)]
pub struct Place {
    pub location: String,
    pub offset: u64,
    pub length: Option<u64>,
}

impl Place {
    /// Understands the entries. `checksum` is not verified and keys that others have added are not looked at: they
    /// describe the storage, which is resolved here and chosen anew on saving.
    pub fn parse<'s>(entries: impl Iterator<Item = (&'s str, &'s str)>) -> Result<Place> {
        let mut location = None;
        let mut place = Place::default();
        for (key, value) in entries {
            match key {
                "location" => location = Some(value.to_owned()),
                "offset" => place.offset = number(key, value)?,
                "length" => place.length = Some(number(key, value)?),
                _ => {}
            }
        }
        match location {
            Some(l) if !l.is_empty() => Ok(Place { location: l, ..place }),
            _ => bail!(
                InvalidModel,
                "its data is external, but no location is given: save the model with onnx.save again"
            ),
        }
    }
}

fn number(key: &str, value: &str) -> Result<u64> {
    value.trim().parse().map_err(|_| err!(InvalidModel, "its external data has the {key} '{value}', which is no size"))
}

impl<'a> Store<'a> {
    /// A store over `source`; files of `map_from` bytes and more are mapped.
    pub fn new(source: External<'a>, map_from: u64) -> Self {
        Store { source, map_from, root: None, files: HashMap::default(), paths: HashMap::default() }
    }

    /// The bytes at `place`; `need` is what the tensor's type and shape ask for.
    pub fn get(&mut self, place: &Place, need: usize) -> Result<Bytes> {
        let location = &place.location;
        if let Some(length) = place.length
            && length != need as u64
        {
            bail!(
                InvalidModel,
                "its type and shape need {need} bytes, but its external data in '{location}' has the length {length}"
            );
        }
        let content = self.open(location)?;
        let have = content.len() as u64;
        match place.offset.checked_add(need as u64) {
            Some(end) if end <= have => Ok(content.slice(place.offset as usize..end as usize)),
            _ => bail!(
                InvalidFile,
                "its data should be {need} bytes at offset {} of '{location}', but that has {have} bytes: the file is \
                 incomplete or belongs to another model",
                place.offset
            ),
        }
    }

    fn open(&mut self, location: &str) -> Result<Bytes> {
        match self.source {
            External::None => bail!(
                NotFound,
                "its data is in the external file '{location}', and no folder or memory was given to find it: load the \
                 model from its file, or pass the external data along"
            ),
            External::Memory(files) => files.get(location).cloned().ok_or_else(|| {
                let mut known: Vec<&str> = files.keys().map(String::as_str).collect();
                known.sort_unstable();
                err!(
                    NotFound,
                    "its data is in the external file '{location}', which is not among those given ({})",
                    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                )
            }),
            External::Folder(folder) => self.open_in(folder, location),
        }
    }

    fn open_in(&mut self, folder: &Path, location: &str) -> Result<Bytes> {
        let path = match self.paths.get(location) {
            Some(path) => path.clone(),
            None => {
                let path = self.resolve(folder, location)?;
                self.paths.insert(location.to_owned(), path.clone());
                path
            }
        };
        if let Some(content) = self.files.get(&path) {
            return Ok(content.clone());
        }
        let content = map::read(&path, self.map_from)?;
        self.files.insert(path, content.clone());
        Ok(content)
    }

    /// The location's path with every symbolic link resolved, if it lies in the folder.
    fn resolve(&mut self, folder: &Path, location: &str) -> Result<PathBuf> {
        let inside = Path::new(location).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        // A drive letter or a backslash means a path elsewhere on another system; none is a folder of ours.
        if !inside || location.contains('\0') || location.contains('\\') || location.get(1..2) == Some(":") {
            bail!(
                InvalidModel,
                "its data is in the external file '{location}', which lies outside the model's folder: only relative \
                 paths that stay in it are followed"
            );
        }
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let root = match &self.root {
            Some(root) => root.clone(),
            None => {
                let cannot = |e| Error::io(format_args!("cannot open the folder '{}'", folder.display()), &e);
                let root = std::fs::canonicalize(folder).map_err(cannot)?;
                self.root.insert(root).clone()
            }
        };
        let path = std::fs::canonicalize(root.join(location)).map_err(|e| {
            Error::io(format_args!("its data is in '{}', which cannot be opened", folder.join(location).display()), &e)
        })?;
        if !path.starts_with(&root) {
            bail!(
                InvalidModel,
                "its data is in the external file '{location}', a symbolic link that leads out of the model's folder: \
                 put the file itself there"
            );
        }
        Ok(path)
    }
}
