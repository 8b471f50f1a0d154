//! An archive's program: source files parsed when first needed, and its pickled attributes and constants.

use super::ast::{Class, Definition, Function};
use super::parser;
use crate::frontend::torch::archive::Archive;
use crate::frontend::torch::pickle::{Id, Object, Pickle};
use crate::hash::HashMap;
use crate::{Result, bail, err};
use std::rc::Rc;

/// Bytes of all source files together.
const MAX_SOURCE: usize = 256 << 20;

/// See the module's description.
pub struct Program {
    pub archive: Archive,
    pub data: Pickle,
    pub constants: Option<Pickle>,
    /// The operators' version that the archive was written with.
    pub version: i64,
    files: HashMap<String, Rc<HashMap<Rc<str>, Definition>>>,
    source: usize,
}

impl Program {
    /// Reads what is not source.
    pub fn read(archive: Archive) -> Result<Program> {
        let version = match archive.text("version")? {
            Some(text) => text
                .trim()
                .parse()
                .map_err(|_| err!(InvalidFile, "the archive's version is no number: it is damaged"))?,
            None => 3,
        };
        if version > 64 {
            bail!(Unsupported, "the archive has version {version}; versions up to 10 are known");
        }
        let data = Pickle::read(&archive.need("data.pkl")?).map_err(|e| e.context("'data.pkl'"))?;
        let constants = match archive.get("constants.pkl")? {
            Some(bytes) => Some(Pickle::read(&bytes).map_err(|e| e.context("'constants.pkl'"))?),
            None => None,
        };
        Ok(Program { archive, data, constants, version, files: HashMap::default(), source: 0 })
    }

    /// The constant `CONSTANTS.c<index>`.
    pub fn constant(&self, name: &str) -> Result<(&Pickle, Id)> {
        let index = name.strip_prefix('c').and_then(|n| n.parse::<usize>().ok());
        let found = self.constants.as_ref().zip(index).and_then(|(pickle, index)| match pickle.get(pickle.root()) {
            Object::Tuple(items) | Object::List(items) => items.get(index).map(|id| (pickle, *id)),
            _ => None,
        });
        found.ok_or_else(|| err!(InvalidFile, "the archive has no constant '{name}': it is damaged"))
    }

    fn definition(&mut self, full: &str) -> Result<Option<Definition>> {
        let Some((module, name)) = full.rsplit_once('.') else { return Ok(None) };
        let file = format!("code/{}.py", module.replace('.', "/"));
        if let Some(found) = self.files.get(&file) {
            return Ok(found.get(name).cloned());
        }
        let mut definitions = HashMap::default();
        if let Some(text) = self.archive.text(&file)? {
            self.source += text.len();
            if self.source > MAX_SOURCE {
                bail!(InvalidFile, "the archive's source has more than {MAX_SOURCE} bytes");
            }
            for definition in parser::parse(&text, &file)? {
                let name = match &definition {
                    Definition::Function(f) => f.name.clone(),
                    Definition::Class(c) => c.name.clone(),
                };
                definitions.insert(name, definition);
            }
        }
        let found = definitions.get(name).cloned();
        self.files.insert(file, Rc::new(definitions));
        Ok(found)
    }

    /// A class by its full name.
    pub fn class(&mut self, full: &str) -> Result<Option<Rc<Class>>> {
        Ok(match self.definition(full)? {
            Some(Definition::Class(class)) => Some(class),
            _ => None,
        })
    }

    /// A function by its full name.
    pub fn function(&mut self, full: &str) -> Result<Option<Rc<Function>>> {
        Ok(match self.definition(full)? {
            Some(Definition::Function(function)) => Some(function),
            _ => None,
        })
    }

    /// A class's method.
    pub fn method(&mut self, class: &str, name: &str) -> Result<Option<Rc<Function>>> {
        Ok(self.class(class)?.and_then(|c| c.methods.iter().find(|m| *m.name == *name).cloned()))
    }
}
