//! The stack machine of a pickle, reduced to plain data (protocols 2 to 4).
//!
//! Values are in one list and refer to each other by number. So a value that contains itself, or a million nested
//! tuples, are cheap to drop and cannot overflow the stack. Texts are borrowed from the pickle, and a tensor is four
//! numbers of values. So the memory that a pickle takes is bounded by its length and by the limits below, even if it
//! repeats values.

use super::PickleError;
use super::code::{Function, Input, function};
use safetensors::Dtype;
use std::collections::HashMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(u32);

#[derive(Debug)]
pub enum Node<'a> {
    /// None, booleans and floating-point numbers; their values are not needed.
    Plain,
    Number(i64),
    Text(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Function(Function),
    /// The value that is its key, and its element type.
    Storage(Id, Dtype),
    Tensor(Parts),
    /// A module of a TorchScript archive, and its state.
    Object(Option<Id>),
}

/// The arguments of a tensor.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    storage: Id,
    offset: Id,
    shape: Id,
    strides: Id,
}

/// A tensor as the pickle describes it, before any check against its storage.
#[derive(Debug)]
pub struct Described<'a> {
    pub storage: &'a str,
    pub dtype: Dtype,
    /// Offset of the first element, in elements.
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

#[derive(Debug, Default)]
pub struct Machine<'a> {
    nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<usize, Id>,
    /// Number of entries in all tuples, lists and dictionaries.
    entries: usize,
}

/// Most values, and most entries on the stack, in the marks and in the memo. A training checkpoint of the largest CLIP
/// with its optimiser has a third of this. [choice]
const MAX_VALUES: usize = 1 << 18;
/// Most entries of tuples, lists and dictionaries together. [choice]
const MAX_ENTRIES: usize = 1 << 20;
/// Most dimensions of a tensor. [choice]
const MAX_DIMENSIONS: usize = 8;

impl<'a> Machine<'a> {
    pub fn node(&self, id: Id) -> &Node<'a> {
        &self.nodes[id.0 as usize]
    }

    pub fn text(&self, id: Id) -> Option<&'a str> {
        match self.node(id) {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The description of a tensor. It is read at the end, because a list of sizes may have been changed after the
    /// tensor was made.
    pub fn described(&self, parts: Parts) -> Result<Described<'a>, &'static str> {
        let Node::Storage(key, dtype) = *self.node(parts.storage) else { return Err("a tensor without storage") };
        let sizes = |id: Id| {
            let sizes = self.items(id)?;
            if sizes.len() > MAX_DIMENSIONS {
                return Err("a tensor of more than 8 dimensions");
            }
            sizes.iter().map(|&size| self.size(size)).collect::<Result<Vec<_>, _>>()
        };
        let tensor = Described {
            storage: self.text(key).ok_or("a storage without a key")?,
            dtype,
            offset: self.size(parts.offset)?,
            shape: sizes(parts.shape)?,
            strides: sizes(parts.strides)?,
        };
        match tensor.shape.len() == tensor.strides.len() {
            true => Ok(tensor),
            false => Err("a tensor with another number of strides than sizes"),
        }
    }

    /// Runs a pickle to its end. The result is the value that it leaves on the stack.
    pub fn run(&mut self, pickle: &'a [u8]) -> Result<Id, PickleError> {
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

    fn step(&mut self, code: u8, input: &mut Input<'a>) -> Result<(), Fault> {
        match code {
            0x80 => drop(input.byte()?),  // PROTO
            0x95 => drop(input.take(8)?), // FRAME
            b'(' if self.marks.len() < MAX_VALUES => self.marks.push(self.stack.len()),
            b'(' => return Err(TOO_MUCH),
            b'0' => drop(self.pop()?),
            b'N' | 0x88 | 0x89 => self.push(Node::Plain)?,
            b'G' => {
                input.take(8)?;
                self.push(Node::Plain)?;
            }
            b'K' => self.push(Node::Number(input.number(1)?))?,
            b'M' => self.push(Node::Number(input.number(2)?))?,
            b'J' => self.push(Node::Number(i64::from(input.number(4)? as u32 as i32)))?,
            0x8a => {
                let length = input.byte()? as usize;
                let bytes = input.take(length)?;
                if length > 8 {
                    return Err(Fault::Damaged("a number of more than 64 bits"));
                }
                let filler = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
                let mut full = [filler; 8];
                full[..length].copy_from_slice(bytes);
                self.push(Node::Number(i64::from_le_bytes(full)))?;
            }
            b'X' => self.push_text(input, 4)?,
            0x8c | b'U' => self.push_text(input, 1)?,
            b')' => self.push(Node::Tuple(Vec::new()))?,
            b']' => self.push(Node::List(Vec::new()))?,
            b'}' => self.push(Node::Dict(Vec::new()))?,
            0x85..=0x87 => {
                let items = self.pops(usize::from(code - 0x84))?;
                self.push(Node::Tuple(items))?;
            }
            b't' => {
                let items = self.since_mark()?;
                self.push(Node::Tuple(items))?;
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
                self.push(Node::Function(function))?;
            }
            0x93 => {
                let names = self.pops(2)?;
                let name = |id| self.text(id).ok_or(Fault::Damaged("a function's name is no text"));
                let function = function(name(names[0])?, name(names[1])?)?;
                self.push(Node::Function(function))?;
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(storage)?;
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.reduce(function, arguments)?;
            }
            0x81 => {
                let (_arguments, class) = (self.pop()?, self.pop()?);
                match self.node(class) {
                    Node::Function(Function::Script) => self.push(Node::Object(None))?,
                    _ => return Err(Fault::Damaged("only modules of TorchScript are objects")),
                }
            }
            b'b' => {
                let state = self.pop()?;
                let target = self.top()?;
                match &mut self.nodes[target.0 as usize] {
                    Node::Object(held) => *held = Some(state),
                    Node::Dict(_) => {} // attributes of an OrderedDict, such as a state dict's metadata
                    _ => return Err(Fault::Damaged("a state for what has none")),
                }
            }
            _ => return Err(Fault::Unknown),
        }
        Ok(())
    }

    /// Reads a function call as the description that it stands for.
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
                self.count(2 * pairs.len())?;
                self.push(Node::Dict(pairs))?;
            }
            Function::RebuildTensor => {
                let &[storage, offset, shape, strides, ..] = arguments else {
                    return Err(Fault::Damaged("a tensor without its four parts"));
                };
                let parts = Parts { storage, offset, shape, strides };
                self.described(parts)?;
                self.push(Node::Tensor(parts))?;
            }
            Function::RebuildParameter => {
                let tensor = *arguments.first().ok_or(Fault::Damaged("a parameter without a tensor"))?;
                self.stack_up(tensor)?;
            }
            Function::TypedList => self.push(Node::Plain)?,
            Function::StorageType(..) | Function::Script => return Err(Fault::Damaged("a call of a class")),
        }
        Ok(())
    }

    /// Reads `("storage", type, key, device, elements)`.
    fn storage(&self, id: Id) -> Result<Node<'a>, Fault> {
        let fault = Fault::Damaged("a reference to what is no storage");
        let &[kind, class, key, ..] = self.items(id)? else { return Err(fault) };
        match (self.text(kind), self.node(class), self.text(key)) {
            (Some("storage"), &Node::Function(Function::StorageType(dtype)), Some(_)) => Ok(Node::Storage(key, dtype)),
            _ => Err(fault),
        }
    }

    fn items(&self, id: Id) -> Result<&[Id], &'static str> {
        match self.node(id) {
            Node::Tuple(items) | Node::List(items) => Ok(items),
            _ => Err("a list is missing"),
        }
    }

    fn size(&self, id: Id) -> Result<usize, &'static str> {
        match *self.node(id) {
            Node::Number(number) => usize::try_from(number).map_err(|_| "a negative size"),
            _ => Err("a size is no number"),
        }
    }

    fn push(&mut self, node: Node<'a>) -> Result<(), Fault> {
        if self.nodes.len() == MAX_VALUES {
            return Err(TOO_MUCH);
        }
        self.nodes.push(node);
        self.stack_up(Id(self.nodes.len() as u32 - 1))
    }

    fn stack_up(&mut self, id: Id) -> Result<(), Fault> {
        if self.stack.len() == MAX_VALUES {
            return Err(TOO_MUCH);
        }
        self.stack.push(id);
        Ok(())
    }

    /// Counts entries that are added to a value.
    fn count(&mut self, entries: usize) -> Result<(), Fault> {
        self.entries += entries;
        if self.entries > MAX_ENTRIES { Err(TOO_MUCH) } else { Ok(()) }
    }

    fn push_text(&mut self, input: &mut Input<'a>, width: usize) -> Result<(), Fault> {
        let length = input.number(width)? as usize;
        let text = std::str::from_utf8(input.take(length)?).map_err(|_| Fault::Damaged("text that is not UTF-8"))?;
        self.push(Node::Text(text))
    }

    fn top(&self) -> Result<Id, Fault> {
        self.stack.last().copied().ok_or(EMPTY)
    }

    fn pop(&mut self) -> Result<Id, &'static str> {
        // Values below the last mark must not be taken.
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() > floor { Ok(self.stack.pop().expect("it is not empty")) } else { Err(EMPTY_STACK) }
    }

    fn pops(&mut self, count: usize) -> Result<Vec<Id>, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let first = self.stack.len().checked_sub(count).filter(|first| *first >= floor).ok_or(EMPTY)?;
        self.taken(first)
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, Fault> {
        let mark = self.marks.pop().ok_or(Fault::Damaged("no mark is set"))?;
        self.taken(mark)
    }

    /// Takes the values from position `first` on off the stack. The stack keeps its capacity.
    fn taken(&mut self, first: usize) -> Result<Vec<Id>, Fault> {
        self.count(self.stack.len() - first)?;
        Ok(self.stack.drain(first..).collect())
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), Fault> {
        let target = self.top()?;
        match &mut self.nodes[target.0 as usize] {
            Node::List(list) => list.extend(items),
            _ => return Err(Fault::Damaged("an addition to what is no list")),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Result<(), Fault> {
        let target = self.top()?;
        match &mut self.nodes[target.0 as usize] {
            Node::Dict(pairs) if items.len().is_multiple_of(2) => {
                pairs.extend(items.chunks(2).map(|pair| (pair[0], pair[1])))
            }
            _ => return Err(Fault::Damaged("an entry for what is no dictionary")),
        }
        Ok(())
    }

    fn memorise(&mut self, key: usize) -> Result<(), Fault> {
        let top = self.top()?;
        if self.memo.len() == MAX_VALUES && !self.memo.contains_key(&key) {
            return Err(TOO_MUCH);
        }
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: usize) -> Result<(), Fault> {
        let id = *self.memo.get(&key).ok_or(Fault::Damaged("something is recalled that was never kept"))?;
        self.stack_up(id)
    }
}

const TOO_MUCH: Fault = Fault::Damaged("more values than any CLIP needs to be described");
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
