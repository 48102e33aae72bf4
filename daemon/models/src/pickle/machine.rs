//! The stack machine of a pickle, cut down to plain data (protocols 2 to 4).
//!
//! Values lie in one list and refer to each other by number: a value that contains itself, or a million nested tuples,
//! cost nothing to drop and can overflow no stack.

use super::{Described, PickleError};
use crate::weights::Element;
use std::collections::HashMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(usize);

#[derive(Debug)]
pub enum Node {
    /// None, booleans and floating-point numbers: there, and of no interest.
    Plain,
    Number(i64),
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Function(Function),
    Storage(Storage),
    Tensor(Described),
    /// A module of a TorchScript archive, with what it holds.
    Object(Option<Id>),
}

/// What a pickle may name.
#[derive(Clone, Copy, Debug)]
pub enum Function {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    StorageType(Element, usize),
    /// A class of a TorchScript archive.
    Script,
    /// A list of numbers with its type, in a TorchScript archive.
    TypedList,
}

#[derive(Clone, Debug)]
pub struct Storage {
    key: String,
    element: Element,
    bytes: usize,
}

#[derive(Debug, Default)]
pub struct Machine {
    nodes: Vec<Node>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<usize, Id>,
    /// Entries that calls have copied.
    copied: usize,
}

/// Most entries that may be copied: a short pickle could copy one long list without end. [choice]
const MAX_COPIED: usize = 1 << 20;
/// Most dimensions of a tensor. [choice]
const MAX_DIMENSIONS: usize = 8;

impl Machine {
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id.0]
    }

    pub fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Runs a pickle to its end; what it leaves is the value.
    pub fn run(&mut self, pickle: &[u8]) -> Result<Id, PickleError> {
        let mut input = Input { bytes: pickle, at: 0 };
        loop {
            let at = input.at;
            let code = input.byte()?;
            if code == b'.' {
                return self.pop().map_err(|problem| PickleError::Damaged { at, problem });
            }
            match self.step(code, &mut input) {
                Ok(()) => {}
                Err(Fault::Damaged(problem)) => return Err(PickleError::Damaged { at, problem }),
                Err(Fault::Unknown) => return Err(PickleError::Instruction { at, code }),
                Err(Fault::Refused(error)) => return Err(error),
            }
        }
    }

    fn step(&mut self, code: u8, input: &mut Input) -> Result<(), Fault> {
        match code {
            0x80 => drop(input.byte()?),  // PROTO
            0x95 => drop(input.take(8)?), // FRAME
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'N' | 0x88 | 0x89 => self.push(Node::Plain),
            b'G' => {
                input.take(8)?;
                self.push(Node::Plain);
            }
            b'K' => self.push_number(input.number(1)?),
            b'M' => self.push_number(input.number(2)?),
            b'J' => self.push_number(i64::from(input.number(4)? as u32 as i32)),
            0x8a => {
                let length = input.byte()? as usize;
                let bytes = input.take(length)?;
                if length > 8 {
                    return Err(Fault::Damaged("a number of more than 64 bits"));
                }
                let filler = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
                let mut full = [filler; 8];
                full[..length].copy_from_slice(bytes);
                self.push_number(i64::from_le_bytes(full));
            }
            b'X' => self.push_text(input, 4)?,
            0x8c | b'U' => self.push_text(input, 1)?,
            b')' => self.push(Node::Tuple(Vec::new())),
            b']' => self.push(Node::List(Vec::new())),
            b'}' => self.push(Node::Dict(Vec::new())),
            0x85..=0x87 => {
                let items = self.pops(usize::from(code - 0x84))?;
                self.push(Node::Tuple(items));
            }
            b't' => {
                let items = self.since_mark()?;
                self.push(Node::Tuple(items));
            }
            b'a' => {
                let item = self.pops(1)?;
                self.append(item)?;
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(items)?;
            }
            b's' => {
                let pair = self.pops(2)?;
                self.set(&pair)?;
            }
            b'u' => {
                let pairs = self.since_mark()?;
                self.set(&pairs)?;
            }
            b'q' => self.memorise(input.number(1)? as usize)?,
            b'r' => self.memorise(input.number(4)? as usize)?,
            0x94 => self.memorise(self.memo.len())?,
            b'h' => self.recall(input.number(1)? as usize)?,
            b'j' => self.recall(input.number(4)? as usize)?,
            b'c' => {
                let (module, name) = (input.line()?, input.line()?);
                let function = function(module, name)?;
                self.push(Node::Function(function));
            }
            0x93 => {
                let names = self.pops(2)?;
                let name = |id| self.text(id).ok_or(Fault::Damaged("a function's name is no text"));
                let function = function(name(names[0])?, name(names[1])?)?;
                self.push(Node::Function(function));
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Node::Storage(storage));
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.reduce(function, arguments)?;
            }
            0x81 => {
                let (_arguments, class) = (self.pop()?, self.pop()?);
                match self.node(class) {
                    Node::Function(Function::Script) => self.push(Node::Object(None)),
                    _ => return Err(Fault::Damaged("only modules of TorchScript are objects")),
                }
            }
            b'b' => {
                let state = self.pop()?;
                let target = self.top()?;
                match &mut self.nodes[target.0] {
                    Node::Object(held) => *held = Some(state),
                    Node::Dict(_) => {} // attributes of an OrderedDict, such as a state dict's metadata
                    _ => return Err(Fault::Damaged("a state for what has none")),
                }
            }
            _ => return Err(Fault::Unknown),
        }
        Ok(())
    }

    /// Takes a call for what it describes.
    fn reduce(&mut self, function: Id, arguments: Id) -> Result<(), Fault> {
        let Node::Function(function) = *self.node(function) else {
            return Err(Fault::Damaged("a call of what is no function"));
        };
        let arguments = self.items(arguments)?;
        match function {
            Function::OrderedDict => {
                let mut pairs = Vec::new();
                if let [list] = arguments {
                    for &pair in self.items(*list)? {
                        let [key, value] = self.items(pair)? else { return Err(Fault::Damaged("a pair is no pair")) };
                        pairs.push((*key, *value));
                    }
                }
                self.copied += pairs.len();
                if self.copied > MAX_COPIED {
                    return Err(Fault::Damaged("the same list is copied over and over"));
                }
                self.push(Node::Dict(pairs));
            }
            Function::RebuildTensor => {
                let [storage, offset, shape, strides, ..] = arguments else {
                    return Err(Fault::Damaged("a tensor without its four parts"));
                };
                let Node::Storage(Storage { key, element, bytes }) = self.node(*storage) else {
                    return Err(Fault::Damaged("a tensor without storage"));
                };
                let sizes = |id: Id| {
                    let sizes = self.items(id)?;
                    if sizes.len() > MAX_DIMENSIONS {
                        return Err(Fault::Damaged("a tensor of more than 8 dimensions"));
                    }
                    sizes.iter().map(|&size| self.size(size)).collect::<Result<Vec<_>, _>>()
                };
                let tensor = Described {
                    storage: key.clone(),
                    element: *element,
                    bytes: *bytes,
                    offset: self.size(*offset)?,
                    shape: sizes(*shape)?,
                    strides: sizes(*strides)?,
                };
                if tensor.shape.len() != tensor.strides.len() {
                    return Err(Fault::Damaged("a tensor with another number of strides than sizes"));
                }
                self.push(Node::Tensor(tensor));
            }
            Function::RebuildParameter => {
                let tensor = *arguments.first().ok_or(Fault::Damaged("a parameter without a tensor"))?;
                self.stack.push(tensor);
            }
            Function::TypedList => self.push(Node::Plain),
            Function::StorageType(..) | Function::Script => return Err(Fault::Damaged("a call of a class")),
        }
        Ok(())
    }

    /// `("storage", type, key, device, elements)`
    fn storage(&self, id: Id) -> Result<Storage, Fault> {
        let fault = Fault::Damaged("a reference to what is no storage");
        let [kind, class, key, ..] = self.items(id)? else { return Err(fault) };
        match (self.text(*kind), self.node(*class), self.text(*key)) {
            (Some("storage"), &Node::Function(Function::StorageType(element, bytes)), Some(key)) => {
                Ok(Storage { key: key.to_owned(), element, bytes })
            }
            _ => Err(fault),
        }
    }

    fn items(&self, id: Id) -> Result<&[Id], Fault> {
        match self.node(id) {
            Node::Tuple(items) | Node::List(items) => Ok(items),
            _ => Err(Fault::Damaged("a list is missing")),
        }
    }

    fn size(&self, id: Id) -> Result<usize, Fault> {
        match *self.node(id) {
            Node::Number(number) => usize::try_from(number).map_err(|_| Fault::Damaged("a negative size")),
            _ => Err(Fault::Damaged("a size is no number")),
        }
    }

    fn push(&mut self, node: Node) {
        self.nodes.push(node);
        self.stack.push(Id(self.nodes.len() - 1));
    }

    fn push_number(&mut self, number: i64) {
        self.push(Node::Number(number));
    }

    fn push_text(&mut self, input: &mut Input, width: usize) -> Result<(), Fault> {
        let length = input.number(width)? as usize;
        let text = std::str::from_utf8(input.take(length)?).map_err(|_| Fault::Damaged("text that is not UTF-8"))?;
        self.push(Node::Text(text.to_owned()));
        Ok(())
    }

    fn top(&self) -> Result<Id, Fault> {
        self.stack.last().copied().ok_or(EMPTY)
    }

    fn pop(&mut self) -> Result<Id, &'static str> {
        // What lies below the last mark belongs to whoever set it.
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() > floor { Ok(self.stack.pop().expect("it is not empty")) } else { Err(EMPTY_STACK) }
    }

    fn pops(&mut self, count: usize) -> Result<Vec<Id>, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let first = self.stack.len().checked_sub(count).filter(|first| *first >= floor).ok_or(EMPTY)?;
        Ok(self.stack.split_off(first))
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, Fault> {
        let mark = self.marks.pop().ok_or(Fault::Damaged("no mark is set"))?;
        Ok(self.stack.split_off(mark))
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), Fault> {
        let target = self.top()?;
        match &mut self.nodes[target.0] {
            Node::List(list) => list.extend(items),
            _ => return Err(Fault::Damaged("an addition to what is no list")),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Result<(), Fault> {
        let target = self.top()?;
        match &mut self.nodes[target.0] {
            Node::Dict(pairs) if items.len().is_multiple_of(2) => {
                pairs.extend(items.chunks(2).map(|pair| (pair[0], pair[1])))
            }
            _ => return Err(Fault::Damaged("an entry for what is no dictionary")),
        }
        Ok(())
    }

    fn memorise(&mut self, key: usize) -> Result<(), Fault> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: usize) -> Result<(), Fault> {
        let id = *self.memo.get(&key).ok_or(Fault::Damaged("something is recalled that was never kept"))?;
        self.stack.push(id);
        Ok(())
    }
}

const EMPTY_STACK: &str = "the stack is empty";
const EMPTY: Fault = Fault::Damaged(EMPTY_STACK);

enum Fault {
    Damaged(&'static str),
    Unknown,
    Refused(PickleError),
}

impl From<&'static str> for Fault {
    fn from(problem: &'static str) -> Self {
        Fault::Damaged(problem)
    }
}

impl From<PickleError> for Fault {
    fn from(error: PickleError) -> Self {
        Fault::Refused(error)
    }
}

fn function(module: &str, name: &str) -> Result<Function, Fault> {
    let storage = |element, bytes| Function::StorageType(element, bytes);
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Function::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Function::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Function::RebuildParameter,
        ("torch", "FloatStorage") => storage(Element::F32, 4),
        ("torch", "HalfStorage") => storage(Element::F16, 2),
        ("torch", "BFloat16Storage") => storage(Element::BF16, 2),
        ("torch", "DoubleStorage") => storage(Element::Other("F64"), 8),
        ("torch", "LongStorage") => storage(Element::Other("I64"), 8),
        ("torch", "IntStorage") => storage(Element::Other("I32"), 4),
        ("torch", "BoolStorage") => storage(Element::Other("BOOL"), 1),
        ("torch.jit._pickle", "build_intlist" | "build_doublelist" | "build_boollist") => Function::TypedList,
        // Compiled modules; the names are looked at no further.
        (module, _) if module.starts_with("__torch__") => Function::Script,
        _ => return Err(PickleError::Forbidden(format!("{module}.{name}")).into()),
    })
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], PickleError> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(PickleError::Damaged { at: self.at, problem: "it ends too early" })?;
        let bytes = &self.bytes[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        Ok(self.take(1)?[0])
    }

    /// Little-endian and unsigned.
    fn number(&mut self, width: usize) -> Result<i64, PickleError> {
        Ok(self.take(width)?.iter().rev().fold(0, |number, &byte| number << 8 | i64::from(byte)))
    }

    fn line(&mut self) -> Result<&'a str, PickleError> {
        let length = self.bytes[self.at..].iter().position(|byte| *byte == b'\n').unwrap_or(self.bytes.len());
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length])
            .map_err(|_| PickleError::Damaged { at: self.at, problem: "a name that is not UTF-8" })
    }
}
