//! Attributes: from the pickle when they are first read, from `Final` values of the class, or as the program has set them.

use super::eval::Evaluator;
use super::value::{Instance, Val};
use crate::frontend::torch::lower::Tensor;
use crate::frontend::torch::pickle::{Id, Object, tensor_data};
use crate::hash::HashMap;
use crate::{Result, bail, err};
use std::cell::RefCell;
use std::rc::Rc;

/// Nesting of lists, tuples and dicts in attributes.
const MAX_DEPTH: usize = 100;
/// Bytes of the path of a module, which goes into the names of its operators.
const MAX_PATH: usize = 4096;

/// Which of the archive's two pickles an object is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// `data.pkl`
    Data,
    /// `constants.pkl`
    Constants,
}

/// Tensors by storage, offset, sizes and strides: equal ones are one tensor, so tied weights stay tied.
pub type Shared = HashMap<(Source, Rc<str>, i64, Vec<i64>, Vec<i64>), Tensor>;

impl Evaluator {
    /// An attribute of an object.
    pub fn attribute(&mut self, object: &Rc<Instance>, name: &str) -> Result<Val> {
        if let Some(val) = object.fields.borrow().get(name) {
            return Ok(val.clone());
        }
        let path = if object.path.is_empty() { name.to_owned() } else { format!("{}.{name}", object.path) };
        if let Some(Object::Dict(items)) = object.state.map(|state| self.program.data.get(state)) {
            let steps = items.len() / 32;
            self.charge(steps)?;
        }
        let pickled = object.state.and_then(|state| self.program.data.attribute(state, name));
        let val = match pickled {
            Some(id) => self.unpickled(Source::Data, id, &path, 0)?,
            None => self.final_value(object, name)?,
        };
        // The model is for inference, whatever mode it was saved in.
        let val = if name == "training" && matches!(val, Val::Bool(true)) { Val::Bool(false) } else { val };
        object.fields.borrow_mut().insert(name.into(), val.clone());
        Ok(val)
    }

    fn final_value(&mut self, object: &Rc<Instance>, name: &str) -> Result<Val> {
        let class = self.program.class(&object.class)?;
        let field = class.as_ref().and_then(|c| c.fields.iter().find(|f| *f.name == *name));
        match field {
            Some(field) => match &field.value {
                Some(value) => self.in_new_frame(value),
                None => Ok(Val::None),
            },
            None => bail!(InvalidFile, "'{}' of class {} has no attribute '{name}'", object.path, object.class),
        }
    }

    /// A value of a pickle; objects and tensors are the same ones each time.
    pub fn unpickled(&mut self, source: Source, id: Id, path: &str, depth: usize) -> Result<Val> {
        if path.len() > MAX_PATH {
            bail!(InvalidFile, "a module's path has more than {MAX_PATH} bytes: modules are nested too deep");
        }
        if depth > MAX_DEPTH {
            bail!(InvalidFile, "the attribute '{path}' is nested deeper than {MAX_DEPTH}, or holds itself");
        }
        if let Some(val) = self.unpickled.get(&(source, id)) {
            return Ok(val.clone());
        }
        let pickle = match source {
            Source::Data => Some(&self.program.data),
            Source::Constants => self.program.constants.as_ref(),
        };
        let object = pickle.map_or(Object::None, |p| p.get(id).clone());
        let val = match object {
            Object::None => Val::None,
            Object::Bool(b) => Val::Bool(b),
            Object::Int(v) => Val::int(v),
            Object::Float(v) => Val::Float(v),
            Object::Str(s) => Val::Str(s),
            Object::Tuple(items) => Val::tuple(self.unpickled_items(source, &items, path, depth)?),
            Object::List(items) => Val::list(self.unpickled_items(source, &items, path, depth)?),
            Object::Dict(items) => {
                let mut out = Vec::with_capacity(items.len());
                for (key, value) in items {
                    let key = self.unpickled(source, key, path, depth + 1)?;
                    out.push((key, self.unpickled(source, value, path, depth + 1)?));
                }
                Val::Dict(Rc::new(RefCell::new(out)))
            }
            Object::Record { class, state } => {
                let fields = RefCell::new(HashMap::default());
                Val::Object(Rc::new(Instance { class, path: path.to_owned(), fields, state }))
            }
            Object::Enum { class, member } => {
                let value = self.unpickled(source, member, path, depth + 1)?;
                self.enum_by_value(&class, value)?
            }
            Object::Tensor { offset, sizes, strides, .. } => {
                Val::Tensor(self.pickled_tensor(source, id, (offset, sizes, strides), path)?)
            }
            Object::Complex(..) => bail!(Unsupported, "the attribute '{path}' is a complex number"),
            Object::Global(name) => Val::Path(name),
            Object::Storage { .. } => bail!(InvalidFile, "the attribute '{path}' is a bare storage"),
        };
        self.unpickled.insert((source, id), val.clone());
        Ok(val)
    }

    fn unpickled_items(&mut self, source: Source, items: &[Id], path: &str, depth: usize) -> Result<Vec<Val>> {
        let each = items.iter().enumerate();
        each.map(|(i, id)| self.unpickled(source, *id, &format!("{path}.{i}"), depth + 1)).collect()
    }

    fn pickled_tensor(
        &mut self,
        source: Source,
        id: Id,
        (offset, sizes, strides): (i64, Vec<i64>, Vec<i64>),
        path: &str,
    ) -> Result<Tensor> {
        let (pickle, folder) = match source {
            Source::Data => (Some(&self.program.data), "data"),
            Source::Constants => (self.program.constants.as_ref(), "constants"),
        };
        let found = match pickle {
            Some(pickle) => tensor_data(pickle, id, &self.program.archive, folder).map_err(|e| e.context(path))?,
            None => None,
        };
        let (data, key) = found.ok_or_else(|| err!(InvalidFile, "the tensor '{path}' has no storage"))?;
        let key = (source, key, offset, sizes, strides);
        if let Some(tensor) = self.shared.get(&key) {
            return Ok(tensor.clone());
        }
        let tensor = self.low.constant(path, &data)?;
        self.shared.insert(key, tensor.clone());
        Ok(tensor)
    }

    /// The member of an enumeration that has this value.
    fn enum_by_value(&mut self, class: &Rc<str>, value: Val) -> Result<Val> {
        let found = self.program.class(class)?;
        let fields =
            found.iter().flat_map(|c| c.fields.iter()).filter_map(|f| f.value.clone().map(|v| (f.name.clone(), v)));
        for (name, expr) in fields.collect::<Vec<_>>() {
            let own = self.in_new_frame(&expr)?;
            if own.equal(&value) == Some(true) || matches!(&value, Val::Str(s) if **s == *name) {
                return Ok(Val::Enum(class.clone(), name, Rc::new(own)));
            }
        }
        bail!(InvalidFile, "the enumeration {class} has no such member: the archive is damaged")
    }

    /// A member of an enumeration by its name, if the path is one.
    pub fn enum_member(&mut self, class: &str, name: &str) -> Result<Option<Val>> {
        let Some(found) = self.program.class(class)?.filter(|c| &*c.base == "Enum") else { return Ok(None) };
        let value = found.fields.iter().find(|f| *f.name == *name).and_then(|f| f.value.clone());
        let Some(expr) = value else { return Ok(None) };
        let value = self.in_new_frame(&expr)?;
        Ok(Some(Val::Enum(class.into(), name.into(), Rc::new(value))))
    }
}
