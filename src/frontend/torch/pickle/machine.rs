//! The machine: opcodes of protocol 2 (and the few later ones that eager pickles add), bounds on everything.

use super::{Id, MAX_MARKS, MAX_OBJECTS, MAX_STEPS, Object, Pickle, reduce};
use crate::hash::HashMap;
use crate::{Error, Result, bail, err};
use std::rc::Rc;

pub(super) struct Machine<'a> {
    rest: &'a [u8],
    total: usize,
    pub(super) objects: Vec<Object>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    names: HashMap<String, Id>,
    steps: usize,
}

/// Reads until STOP; what follows it is not looked at (torch pads entries).
pub(super) fn run(bytes: &[u8]) -> Result<Pickle> {
    let mut machine = Machine {
        rest: bytes,
        total: bytes.len(),
        objects: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::default(),
        names: HashMap::default(),
        steps: 0,
    };
    loop {
        let at = machine.total - machine.rest.len();
        let op = machine.byte()?;
        if op == b'.' {
            let root = machine.pop()?;
            return Ok(Pickle { objects: machine.objects, root });
        }
        machine.step(op).map_err(|e| e.context(format_args!("pickle, byte {at}")))?;
    }
}

fn truncated() -> Error {
    err!(InvalidFile, "the pickle ends too early: get the file again, it may be an incomplete copy")
}

impl<'a> Machine<'a> {
    fn step(&mut self, op: u8) -> Result<()> {
        match op {
            0x80 => {
                let version = self.byte()?;
                if version > 5 {
                    bail!(Unsupported, "protocol {version} is not known; torch writes protocol 2");
                }
                Ok(())
            }
            b'(' => {
                if self.marks.len() >= MAX_MARKS {
                    bail!(InvalidFile, "more than {MAX_MARKS} containers are open: it is nested too deep");
                }
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'N' => self.add(Object::None),
            0x88 => self.add(Object::Bool(true)),
            0x89 => self.add(Object::Bool(false)),
            b'J' => {
                let v = i32::from_le_bytes(self.array()?);
                self.add(Object::Int(v.into()))
            }
            b'K' => {
                let v = self.byte()?;
                self.add(Object::Int(v.into()))
            }
            b'M' => {
                let v = u16::from_le_bytes(self.array()?);
                self.add(Object::Int(v.into()))
            }
            0x8a => self.long(),
            b'G' => {
                let v = f64::from_be_bytes(self.array()?);
                self.add(Object::Float(v))
            }
            b'X' => self.text(4),
            0x8c => self.text(1),
            b'T' => self.text(4),
            b'U' => self.text(1),
            b')' => self.add(Object::Tuple(Vec::new())),
            b']' => self.add(Object::List(Vec::new())),
            b'}' => self.add(Object::Dict(Vec::new())),
            b't' => {
                let items = self.since_mark()?;
                self.add(Object::Tuple(items))
            }
            b'l' => {
                let items = self.since_mark()?;
                self.add(Object::List(items))
            }
            0x85 => self.tuple(1),
            0x86 => self.tuple(2),
            0x87 => self.tuple(3),
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(items)
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(vec![key, value])
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set(items)
            }
            b'0' => self.pop().map(drop),
            b'q' => {
                let slot = self.byte()?;
                self.put(slot.into())
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.put(slot)
            }
            b'h' => {
                let slot = self.byte()?;
                self.recall(slot.into())
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.recall(slot)
            }
            b'c' => self.global(),
            b'R' => {
                let arguments = self.pop()?;
                let function = self.pop()?;
                let made = reduce::call(self, function, arguments)?;
                self.push(made)
            }
            0x81 => {
                let arguments = self.pop()?;
                let class = self.pop()?;
                let made = reduce::instance(self, class, arguments)?;
                self.push(made)
            }
            b'b' => {
                let state = self.pop()?;
                let object = self.pop()?;
                reduce::build(self, object, state)?;
                self.push(object)
            }
            b'Q' => {
                let tuple = self.pop()?;
                let made = reduce::persistent(self, tuple)?;
                self.push(made)
            }
            other => bail!(Unsupported, "opcode 0x{other:02x} is not one that torch's pickles use: it is not executed"),
        }
    }

    pub(super) fn get(&self, id: Id) -> &Object {
        self.objects.get(id.0 as usize).unwrap_or(&Object::None)
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Object> {
        self.objects.get_mut(id.0 as usize)
    }

    /// A new object in the arena.
    pub(super) fn make(&mut self, object: Object) -> Result<Id> {
        if self.objects.len() >= MAX_OBJECTS {
            bail!(InvalidFile, "it has more than {MAX_OBJECTS} objects");
        }
        self.objects.push(object);
        Ok(Id(self.objects.len() as u32 - 1))
    }

    fn add(&mut self, object: Object) -> Result<()> {
        let id = self.make(object)?;
        self.push(id)
    }

    fn push(&mut self, id: Id) -> Result<()> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            bail!(InvalidFile, "it takes more than {MAX_STEPS} steps");
        }
        self.stack.push(id);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop().filter(|_| self.stack.len() >= floor) {
            Some(id) => Ok(id),
            None => bail!(InvalidFile, "it takes an object from an empty stack: the pickle is damaged"),
        }
    }

    fn since_mark(&mut self) -> Result<Vec<Id>> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => bail!(InvalidFile, "it closes a container that was not opened: the pickle is damaged"),
        }
    }

    fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.rest.split_first().ok_or_else(truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| truncated())
    }

    /// LONG1: an integer of up to 255 bytes; what int64 cannot hold is an error.
    fn long(&mut self) -> Result<()> {
        let len = self.byte()?;
        let bytes = self.take(len.into())?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let fill = if negative { 0xff } else { 0 };
        let mut wide = [fill; 8];
        for (at, b) in bytes.iter().enumerate() {
            match wide.get_mut(at) {
                Some(slot) => *slot = *b,
                None if *b == fill => {}
                None => bail!(Unsupported, "it has an integer of {len} bytes; 64 bits are the most"),
            }
        }
        let value = i64::from_le_bytes(wide);
        if bytes.len() > 8 && (value < 0) != negative {
            bail!(Unsupported, "it has an integer of {len} bytes; 64 bits are the most");
        }
        self.add(Object::Int(value))
    }

    fn text(&mut self, width: usize) -> Result<()> {
        let len = match width {
            1 => self.byte()?.into(),
            _ => u32::from_le_bytes(self.array()?) as usize,
        };
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| err!(InvalidFile, "a string is not UTF-8"))?;
        self.add(Object::Str(Rc::from(text)))
    }

    fn tuple(&mut self, len: usize) -> Result<()> {
        let mut items = Vec::with_capacity(len);
        for _ in 0..len {
            items.push(self.pop()?);
        }
        items.reverse();
        self.add(Object::Tuple(items))
    }

    fn append(&mut self, items: Vec<Id>) -> Result<()> {
        let list = self.top()?;
        match self.get_mut(list) {
            Some(Object::List(to)) => to.extend(items),
            _ => bail!(InvalidFile, "it appends to what is no list: the pickle is damaged"),
        }
        Ok(())
    }

    fn set(&mut self, items: Vec<Id>) -> Result<()> {
        let dict = self.top()?;
        match self.get_mut(dict) {
            Some(Object::Dict(to)) if items.len().is_multiple_of(2) => {
                to.extend(items.chunks_exact(2).map(|p| (p[0], p[1])))
            }
            _ => bail!(InvalidFile, "it sets items of what is no dict: the pickle is damaged"),
        }
        Ok(())
    }

    fn top(&mut self) -> Result<Id> {
        let top = self.pop()?;
        self.push(top)?;
        Ok(top)
    }

    fn put(&mut self, slot: u32) -> Result<()> {
        let top = self.top()?;
        if self.memo.len() >= MAX_OBJECTS && !self.memo.contains_key(&slot) {
            bail!(InvalidFile, "it remembers more than {MAX_OBJECTS} objects");
        }
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<()> {
        match self.memo.get(&slot) {
            Some(id) => self.push(*id),
            None => bail!(InvalidFile, "it recalls object {slot}, which it never stored: the pickle is damaged"),
        }
    }

    fn line(&mut self) -> Result<&'a str> {
        let end = self.rest.iter().take(4096).position(|b| *b == b'\n').ok_or_else(truncated)?;
        let line = self.take(end)?;
        self.byte()?;
        std::str::from_utf8(line).map_err(|_| err!(InvalidFile, "a name is not UTF-8"))
    }

    fn global(&mut self) -> Result<()> {
        let (module, name) = (self.line()?, self.line()?);
        let full = format!("{module}.{name}");
        if let Some(id) = self.names.get(&full) {
            return self.push(*id);
        }
        reduce::check_global(&full)?;
        let id = self.make(Object::Global(Rc::from(full.as_str())))?;
        self.names.insert(full, id);
        self.push(id)
    }
}
