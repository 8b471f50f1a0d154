//! The build cache: a folder of engines that were built before, each found by what it was built of.
//!
//! An entry is two files: `MODEL-REST.engine`, an engine file, and `MODEL-REST.json`, which says what it was built of. MODEL
//! is the fingerprint of the model, REST that of the options, the backend, its version and the device. Entries are written
//! whole or not at all. Who builds holds the entry's lock, so that a second process waits and finds what the first one built.

use super::container;
use super::digest::Digest;
use crate::backend::{BuildOptions, EngineInfo, SectionReader};
use crate::frontend::onnx;
use crate::model::Model;
use crate::sys::atomic_file::AtomicFile;
use crate::sys::lock::FileLock;
use crate::sys::map;
use crate::{ErrorCode, Result, err};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Tensors of this many bytes and more are read where they are, not copied first.
const APART: usize = 1024;

/// What an engine was built of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    model: String,
    options: String,
    backend: String,
    /// The backend's version and the device, as the backend tells them.
    machine: String,
    mezzo: String,
}

/// The place of one engine in the cache, locked.
pub(super) struct Entry {
    path: PathBuf,
    identity: Identity,
    _lock: FileLock,
}

impl Identity {
    pub fn new(model: &Model, backend: &str, options: &BuildOptions, machine: String) -> Result<Identity> {
        Ok(Identity {
            model: model_digest(model)?,
            options: options_text(options),
            backend: backend.into(),
            machine,
            mezzo: env!("CARGO_PKG_VERSION").into(),
        })
    }

    fn name(&self) -> String {
        let mut rest = Digest::new();
        [&self.options, &self.backend, &self.machine, &self.mezzo].into_iter().for_each(|t| rest.text(t));
        format!("{}-{}", self.model, rest.finish())
    }

    /// The first thing in which an engine of the same model differs.
    fn difference(&self, other: &Identity) -> String {
        let parts = [
            ("another backend", &other.backend, &self.backend),
            ("another version or device", &other.machine, &self.machine),
            ("another version of Mezzo", &other.mezzo, &self.mezzo),
            ("other options", &other.options, &self.options),
        ];
        let found = parts.iter().find(|(_, theirs, own)| theirs != own);
        found.map_or_else(String::new, |(what, theirs, own)| format!("{what}: {theirs}, and this build has {own}"))
    }
}

fn model_digest(model: &Model) -> Result<String> {
    let split = onnx::split(model, "weights", 1, APART)?;
    let mut digest = Digest::new();
    digest.update(&split.graph);
    for (offset, tensor) in &split.tensors {
        digest.update(&offset.to_le_bytes());
        tensor.for_each_chunk(|chunk| {
            digest.update(chunk);
            Ok(())
        })?;
    }
    Ok(digest.finish())
}

/// The options that make a difference to the engine. Where a library lies makes none; its version stands with the device.
fn options_text(options: &BuildOptions) -> String {
    let BuildOptions { memory_limit, whole, profiles, tensorrt, .. } = options;
    let mut tensorrt = tensorrt.clone();
    (tensorrt.library, tensorrt.timing_cache, tensorrt.scratch_folder) = (None, None, None);
    tensorrt.allow_untested = false;
    format!("memory_limit {memory_limit}, whole {whole}, profiles {profiles:?}, {tensorrt:?}")
}

impl Entry {
    /// The place of an engine; waits while another process builds the same one.
    pub fn open(folder: &Path, identity: Identity) -> Result<Entry> {
        std::fs::create_dir_all(folder)
            .map_err(|e| crate::Error::io(format_args!("cannot make the cache folder '{}'", folder.display()), &e))?;
        let path = folder.join(format!("{}.engine", identity.name()));
        let lock = FileLock::beside(&path)?;
        Ok(Entry { path, identity, _lock: lock })
    }

    /// The engine, or why there is none.
    pub fn read(&self) -> std::result::Result<(EngineInfo, SectionReader), String> {
        let bytes = match map::read(&self.path, map::MAP_THRESHOLD) {
            Ok(bytes) => bytes,
            Err(e) if e.code() == ErrorCode::NotFound => return Err(self.why_not_there()),
            Err(e) => return Err(e.message().to_string()),
        };
        let (info, sections) = container::read(&bytes).map_err(|e| format!("the entry is not readable: {e}"))?;
        match self.described() {
            Some(identity) if identity == self.identity => Ok((info, sections)),
            Some(_) => Err("the entry is of something else, which has the same name".into()),
            None => Err("the entry has no readable description".into()),
        }
    }

    /// Puts an engine there: its file as [`super::Engine::save`] writes it, then its description.
    pub fn write(&self, save: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        // The description goes first: an engine without one does not count, and neither does one of an older engine.
        let _ = std::fs::remove_file(self.description());
        save(&self.path)?;
        let text = serde_json::to_vec_pretty(&self.identity).map_err(|e| err!(Internal, "cache entry: {e}"))?;
        let mut file = AtomicFile::create(&self.description())?;
        file.write(&text)?;
        file.commit()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn description(&self) -> PathBuf {
        self.path.with_extension("json")
    }

    fn described(&self) -> Option<Identity> {
        read_identity(&self.description())
    }

    /// Looks for engines of the same model, to say in what they differ.
    fn why_not_there(&self) -> String {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(std::result::Result::ok);
        let same_model = |path: &PathBuf| {
            let name = path.file_name().and_then(|n| n.to_str());
            name.is_some_and(|n| n.starts_with(&self.identity.model) && n.ends_with(".json"))
        };
        let others = entries.map(|e| e.path()).filter(same_model).filter_map(|p| read_identity(&p));
        match others.map(|o| self.identity.difference(&o)).find(|d| !d.is_empty()) {
            Some(difference) => format!("the engine of this model that is there has {difference}"),
            None => "there is no engine of this model".into(),
        }
    }
}

fn read_identity(path: &Path) -> Option<Identity> {
    serde_json::from_slice(&Bytes::from(std::fs::read(path).ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{PartSource, Section, ShapeProfile, ShapeRange};
    use crate::model::{DataType, Initializer, Tensor};

    fn model(weight: f32) -> Model {
        let mut model = Model::default();
        let tensor = Tensor::from_vec(DataType::Float32, vec![1000], vec![weight; 1000]);
        model.graph.initializers.push(Initializer { name: "w".into(), tensor, doc_string: None, metadata: vec![] });
        model
    }

    fn identity(weight: f32, options: &BuildOptions, machine: &str) -> Identity {
        Identity::new(&model(weight), "tensorrt", options, machine.into()).unwrap()
    }

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("mezzo-cache-{name}-{}", std::process::id()))
    }

    fn save(path: &Path) -> Result<()> {
        let info = EngineInfo {
            backend: "tensorrt".into(),
            backend_version: "1".into(),
            inputs: vec![],
            outputs: vec![],
            weight_bytes: 0,
            activation_bytes: None,
            half_nodes: 1,
            float_nodes: 0,
            nodes: 1,
        };
        container::save(
            path,
            &info,
            &[Section { name: "plan", parts: vec![PartSource::Bytes(Bytes::from_static(b"plan"))] }],
        )
    }

    #[test]
    fn everything_that_matters_is_in_the_name() {
        let plain = BuildOptions::default();
        let mut profile = plain.clone();
        profile.profiles.push(ShapeProfile::from([("x".into(), ShapeRange::parse("1:2:3").unwrap())]));
        let mut level = plain.clone();
        level.tensorrt.optimization_level = Some(3);
        let all = [
            identity(1.0, &plain, "a"),
            identity(2.0, &plain, "a"),
            identity(1.0, &profile, "a"),
            identity(1.0, &level, "a"),
            identity(1.0, &plain, "b"),
        ];
        let names: crate::hash::HashSet<String> = all.iter().map(Identity::name).collect();
        assert_eq!(names.len(), all.len());

        let mut elsewhere = plain.clone();
        elsewhere.tensorrt.library = Some("/other/place".into());
        elsewhere.tensorrt.timing_cache = Some("/t".into());
        assert_eq!(identity(1.0, &elsewhere, "a").name(), all[0].name());
    }

    #[test]
    fn what_is_written_is_found_and_a_miss_says_why() {
        let folder = folder("found");
        let plain = BuildOptions::default();
        let open = |machine: &str| Entry::open(&folder, identity(1.0, &plain, machine)).unwrap();
        let entry = open("a");
        assert_eq!(entry.read().map(|_| ()).unwrap_err(), "there is no engine of this model");
        entry.write(save).unwrap();
        assert_eq!(entry.read().unwrap().0.half_nodes, 1);
        let path = entry.path().to_path_buf();
        drop(entry);
        let reason = open("b").read().map(|_| ()).unwrap_err();
        assert!(reason.contains("another version or device: a, and this build has b"), "{reason}");

        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let entry = open("a");
        assert!(entry.read().map(|_| ()).unwrap_err().contains("not readable"));
        entry.write(save).unwrap();
        entry.read().unwrap();
        std::fs::write(path.with_extension("json"), "{}").unwrap();
        assert!(entry.read().map(|_| ()).unwrap_err().contains("no readable description"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
