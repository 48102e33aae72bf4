//! Writes ONNX graphs: nodes, constants, and weights in an external file.
//!
//! Opset 20, IR 9. Weights larger than [`INLINE`] bytes go to the external file, at offsets that are multiples of 4096,
//! so that a runtime can map them into memory. This module knows nothing of CLIP.

use super::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto, tensor_proto, tensor_shape_proto, type_proto,
};
use prost::Message;
use tch::{Device, Kind, Tensor};

const OPSET: i64 = 20;
const IR: i64 = 9;
const PAGE: usize = 4096;
/// Tensors up to this size, bytes, stay inside the graph. Shapes must be inside it, so that a runtime can fold
/// constants.
const INLINE: usize = 1024;

/// A value in the graph, by name.
pub type Value = String;

/// One dimension of a shape: a number, or a name (`batch`).
#[derive(Clone, Copy, Debug)]
pub enum Side {
    Known(i64),
    Named(&'static str),
}

#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<NodeProto>,
    weights: Vec<TensorProto>,
    external: Vec<u8>,
    external_name: String,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
    values: usize,
    dtype: DType,
}

/// Element type that real numbers are written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DType {
    #[default]
    Float32,
    Float16,
}

/// An attribute of a node.
#[derive(Debug)]
pub enum Attribute<'a> {
    Int(&'a str, i64),
    Float(&'a str, f32),
    Ints(&'a str, &'a [i64]),
    Text(&'a str, &'a str),
}

impl Graph {
    /// `external_name`: file name of the weights, beside the model.
    pub fn new(external_name: &str) -> Self {
        Self { external_name: external_name.to_owned(), ..Self::default() }
    }

    pub fn input(&mut self, name: &str, shape: &[Side]) -> Value {
        self.inputs.push(value_info(name, shape));
        name.to_owned()
    }

    /// Declares `value` as an output called `name`.
    pub fn output(&mut self, value: &Value, name: &str, shape: &[Side]) {
        self.nodes.push(NodeProto {
            op_type: Some("Identity".to_owned()),
            name: Some(format!("output/{name}")),
            input: vec![value.clone()],
            output: vec![name.to_owned()],
            ..NodeProto::default()
        });
        self.outputs.push(value_info(name, shape));
    }

    /// A node with one output.
    pub fn node(&mut self, op: &str, inputs: &[&Value], attributes: &[Attribute]) -> Value {
        self.values += 1;
        let name = format!("{}_{}", op.to_lowercase(), self.values);
        self.nodes.push(NodeProto {
            op_type: Some(op.to_owned()),
            name: Some(name.clone()),
            input: inputs.iter().map(|v| v.to_string()).collect(),
            output: vec![name.clone()],
            attribute: attributes.iter().map(attribute).collect(),
            ..NodeProto::default()
        });
        name
    }

    /// Casts `value` to that element type. Constants of real numbers that are added after this call have it too.
    pub fn turn_to(&mut self, dtype: DType, value: &Value) -> Value {
        self.dtype = dtype;
        self.node("Cast", &[value], &[Attribute::Int("to", dtype.kind() as i64)])
    }

    /// A constant of real numbers with the values and shape of `tensor`.
    pub fn weight(&mut self, name: &str, tensor: &Tensor) -> Value {
        let kind = match self.dtype {
            DType::Float32 => Kind::Float,
            DType::Float16 => Kind::Half,
        };
        self.constant(name, &tensor.size(), self.dtype.kind(), bytes(tensor, kind))
    }

    /// A constant of 8-bit integers with the values of `tensor`.
    pub fn int8(&mut self, name: &str, tensor: &Tensor) -> Value {
        self.constant(name, &tensor.size(), tensor_proto::DataType::Int8, bytes(tensor, Kind::Int8))
    }

    pub fn integers(&mut self, name: &str, values: &[i64]) -> Value {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, &[values.len() as i64], tensor_proto::DataType::Int64, bytes)
    }

    pub fn scalar(&mut self, name: &str, value: f32) -> Value {
        self.weight(name, &Tensor::from(value))
    }

    pub fn byte(&mut self, name: &str, value: u8) -> Value {
        self.constant(name, &[], tensor_proto::DataType::Uint8, vec![value])
    }

    /// A single integer without dimensions: with this index, `Gather` removes the axis.
    pub fn scalar_index(&mut self, name: &str, value: i64) -> Value {
        self.constant(name, &[], tensor_proto::DataType::Int64, value.to_le_bytes().to_vec())
    }

    fn constant(&mut self, name: &str, shape: &[i64], kind: tensor_proto::DataType, bytes: Vec<u8>) -> Value {
        if self.weights.iter().any(|w| w.name.as_deref() == Some(name)) {
            return name.to_owned();
        }
        let mut tensor = TensorProto {
            name: Some(name.to_owned()),
            dims: shape.to_vec(),
            data_type: Some(kind as i32),
            ..TensorProto::default()
        };
        if bytes.len() <= INLINE {
            tensor.raw_data = Some(bytes);
        } else {
            let offset = self.external.len().next_multiple_of(PAGE);
            self.external.resize(offset, 0);
            let length = bytes.len();
            self.external.extend(bytes);
            let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.into()), value: Some(value) };
            tensor.data_location = Some(tensor_proto::DataLocation::External as i32);
            tensor.external_data = vec![
                entry("location", self.external_name.clone()),
                entry("offset", offset.to_string()),
                entry("length", length.to_string()),
            ];
        }
        self.weights.push(tensor);
        name.to_owned()
    }

    /// The bytes of the model file and of the external weights file.
    pub fn finish(self, name: &str) -> (Vec<u8>, Vec<u8>) {
        let model = ModelProto {
            ir_version: Some(IR),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
            producer_name: Some("coft-trainer".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            graph: Some(GraphProto {
                name: Some(name.to_owned()),
                node: self.nodes,
                initializer: self.weights,
                input: self.inputs,
                output: self.outputs,
                ..GraphProto::default()
            }),
            ..ModelProto::default()
        };
        (model.encode_to_vec(), self.external)
    }
}

impl DType {
    fn kind(self) -> tensor_proto::DataType {
        match self {
            DType::Float32 => tensor_proto::DataType::Float,
            DType::Float16 => tensor_proto::DataType::Float16,
        }
    }
}

/// The values as numbers of that kind, little-endian as on every machine that coft runs on.
fn bytes(tensor: &Tensor, kind: Kind) -> Vec<u8> {
    let tensor = tensor.detach().to_device(Device::Cpu).to_kind(kind).contiguous();
    let mut bytes = vec![0; tensor.numel() * kind.elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

fn attribute(attribute: &Attribute) -> AttributeProto {
    use attribute_proto::AttributeType;
    let named = |name: &str, kind: AttributeType| AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(kind as i32),
        ..AttributeProto::default()
    };
    match *attribute {
        Attribute::Int(name, i) => AttributeProto { i: Some(i), ..named(name, AttributeType::Int) },
        Attribute::Float(name, f) => AttributeProto { f: Some(f), ..named(name, AttributeType::Float) },
        Attribute::Ints(name, ints) => AttributeProto { ints: ints.to_vec(), ..named(name, AttributeType::Ints) },
        Attribute::Text(name, s) => {
            AttributeProto { s: Some(s.as_bytes().to_vec()), ..named(name, AttributeType::String) }
        }
    }
}

fn value_info(name: &str, shape: &[Side]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension};
    let dim = shape
        .iter()
        .map(|side| Dimension {
            value: Some(match side {
                Side::Known(n) => dimension::Value::DimValue(*n),
                Side::Named(name) => dimension::Value::DimParam((*name).to_owned()),
            }),
            ..Dimension::default()
        })
        .collect();
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: Some(tensor_proto::DataType::Float as i32),
                shape: Some(TensorShapeProto { dim }),
            })),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}
