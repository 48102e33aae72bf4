//! The graph that is served: image encoder and head, from `pixels` to `logits`, `probabilities` and `embedding`.
//!
//! Each function mirrors the one of the same name in `clip/` and `phase2`. The probe tests that they agree.

use super::graph::{Attribute, DType, Graph, Side, Value};
use super::int8::{self, Range, Rounded};
use crate::clip::VisionTower;
use crate::clip::block::{Block, LayerNorm, Linear};
use crate::clip::config::Activation;
use crate::model::{Head, ImageClassifier};
use coft_core::manifest::WEIGHTS;
use coft_core::spec::Precision;
use tch::Tensor;

const BATCH: Side = Side::Named("batch");

/// The bytes of the model file and of its external weights file.
pub fn write(model: &ImageClassifier, image_size: i64, precision: Precision) -> (Vec<u8>, Vec<u8>) {
    let mut graph = Graph::new(WEIGHTS);
    let side = Side::Known(image_size);
    let pixels = graph.input("pixels", &[BATCH, Side::Known(3), side, side]);
    let class = encoder(&mut graph, &model.encoder, model.prompts.as_ref(), precision, &pixels);
    let (logits, embedding, width) = match &model.head {
        Head::Linear { weight, bias } => {
            let transposed = graph.weight("head.weight", &weight.tr());
            let bias = graph.weight("head.bias", bias);
            let product = graph.node("MatMul", &[&class, &transposed], &[]);
            let logits = graph.node("Add", &[&product, &bias], &[]);
            (logits, normalised(&mut graph, &class), weight.size()[1])
        }
        Head::Text { features } => {
            let projection = graph.weight("projection", &model.encoder.projection.tr());
            let projected = graph.node("MatMul", &[&class, &projection], &[]);
            let embedding = normalised(&mut graph, &projected);
            let features_t = graph.weight("head.text", &features.tr());
            (graph.node("MatMul", &[&embedding, &features_t], &[]), embedding, features.size()[1])
        }
    };
    let classes = match &model.head {
        Head::Linear { weight, .. } => weight.size()[0],
        Head::Text { features } => features.size()[0],
    };
    let expecting = model.prior.as_ref().map(|prior| {
        let prior = graph.weight("prior", prior);
        graph.node("Add", &[&logits, &prior], &[])
    });
    let probabilities = graph.node("Softmax", &[expecting.as_ref().unwrap_or(&logits)], &[Attribute::Int("axis", -1)]);
    graph.output(&logits, "logits", &[BATCH, Side::Known(classes)]);
    graph.output(&probabilities, "probabilities", &[BATCH, Side::Known(classes)]);
    graph.output(&embedding, "embedding", &[BATCH, Side::Known(width)]);
    graph.finish("classifier")
}

/// `pixels` → class token after the final layer norm. [B, 3, S, S] → [B, W]
fn encoder(
    graph: &mut Graph,
    tower: &VisionTower,
    prompts: Option<&Tensor>,
    precision: Precision,
    pixels: &Value,
) -> Value {
    let (width, patch) = (tower.patch.size()[0], tower.patch.size()[2]);
    let pixels = match precision {
        Precision::Fp16 => &graph.turn_to(DType::Float16, pixels),
        Precision::Fp32 | Precision::Int8 => pixels,
    };
    let kernel = graph.weight("patch", &tower.patch);
    let sides = [Attribute::Ints("kernel_shape", &[patch, patch]), Attribute::Ints("strides", &[patch, patch])];
    let patches = graph.node("Conv", &[pixels, &kernel], &sides); // [B, W, G, G]
    let flat = graph.integers("shape.flat", &[0, width, -1]);
    let patches = graph.node("Reshape", &[&patches, &flat], &[]); // [B, W, G²]
    let patches = graph.node("Transpose", &[&patches], &[Attribute::Ints("perm", &[0, 2, 1])]); // [B, G², W]

    // One class token for each image: the shape of the patches gives B.
    let batch = graph.node("Shape", &[&patches], &[Attribute::Int("start", 0), Attribute::Int("end", 1)]);
    let rest = graph.integers("shape.class", &[1, width]);
    let shape = graph.node("Concat", &[&batch, &rest], &[Attribute::Int("axis", 0)]);
    let class = graph.weight("class", &tower.class.view([1, 1, width]));
    let class = graph.node("Expand", &[&class, &shape], &[]); // [B, 1, W]

    let tokens = graph.node("Concat", &[&class, &patches], &[Attribute::Int("axis", 1)]);
    let positions = graph.weight("positions", &tower.positions);
    let tokens = graph.node("Add", &[&tokens, &positions], &[]); // [B, 1 + G², W]
    let mut x = Tokens::from(layer_norm(graph, "pre_norm", &tower.pre_norm, &tokens));
    for (i, layer) in tower.blocks.iter().enumerate() {
        if let Some(prompts) = prompts.filter(|prompts| (i as i64) < prompts.size()[0]) {
            let before = x.sum(graph);
            x = Tokens::from(with_prompts(graph, i, &prompts.get(i as i64), &batch, &before));
        }
        // In the last block only the class token is read.
        let queries = if i + 1 == tower.blocks.len() { Queries::Class } else { Queries::All };
        x = Layer { name: format!("blocks.{i}"), block: layer, precision }.write(graph, queries, &x);
    }
    let first = graph.scalar_index("index.class", 0);
    let x = x.sum(graph);
    let mut class = graph.node("Gather", &[&x, &first], &[Attribute::Int("axis", 1)]); // [B, W]
    if precision == Precision::Fp16 {
        class = graph.turn_to(DType::Float32, &class);
    }
    layer_norm(graph, "post_norm", &tower.post_norm, &class)
}

/// The residual stream [B, L, W], and an update that is not added yet.
struct Tokens {
    x: Value,
    update: Option<Value>,
}

impl From<Value> for Tokens {
    fn from(x: Value) -> Self {
        Self { x, update: None }
    }
}

impl Tokens {
    fn sum(&self, graph: &mut Graph) -> Value {
        match &self.update {
            Some(update) => graph.node("Add", &[update, &self.x], &[]),
            None => self.x.clone(),
        }
    }

    /// The sum, and its layer norm.
    ///
    /// The norm gets a sum of its own, with the terms in the other order. ONNX Runtime fuses a sum and a norm into one
    /// kernel, five times as fast as the norm's kernel, if no other node reads that sum. It would merge two equal sums
    /// into one node, so the order differs.
    fn norm(&self, graph: &mut Graph, name: &str, norm: &LayerNorm) -> (Value, Value) {
        let own = match &self.update {
            Some(update) => graph.node("Add", &[&self.x, update], &[]),
            None => self.x.clone(),
        };
        let normed = layer_norm(graph, name, norm, &own);
        (self.sum(graph), normed)
    }
}

/// The tokens that have queries. The output of a block holds only these tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Queries {
    All,
    Class,
}

/// Puts the visual prompts [T, W] of block `i` after the class token. From the second block on they replace the prompts
/// of the block before.
fn with_prompts(graph: &mut Graph, i: usize, prompts: &Tensor, batch: &Value, x: &Value) -> Value {
    let (t, width) = prompts.size2().expect("the prompts of a block have two dimensions");
    let rest = graph.integers("shape.prompts", &[t, width]);
    let shape = graph.node("Concat", &[batch, &rest], &[Attribute::Int("axis", 0)]);
    let own = graph.weight(&format!("prompts.{i}"), &prompts.unsqueeze(0));
    let own = graph.node("Expand", &[&own, &shape], &[]); // [B, T, W]
    let axis = graph.integers("axis.tokens", &[1]);
    let mut part = |from: i64, to: i64| {
        let (from, to) =
            (graph.integers(&format!("index.{from}"), &[from]), graph.integers(&format!("index.{to}"), &[to]));
        graph.node("Slice", &[x, &from, &to, &axis], &[])
    };
    let class = part(0, 1);
    let patches = part(if i == 0 { 1 } else { 1 + t }, i64::MAX);
    graph.node("Concat", &[&class, &own, &patches], &[Attribute::Int("axis", 1)])
}

/// A block to be written to the graph.
struct Layer<'a> {
    name: String,
    block: &'a Block,
    precision: Precision,
}

/// The input of a linear layer.
enum Input {
    Plain(Value),
    Rounded(Rounded),
}

impl Layer<'_> {
    fn write(&self, graph: &mut Graph, queries: Queries, tokens: &Tokens) -> Tokens {
        let Self { name, block, .. } = self;
        let (mut x, normed) = tokens.norm(graph, &format!("{name}.norm1"), &block.norm1);
        let key_value = self.input(graph, &normed, Range::AroundZero);
        let update = Some(match queries {
            Queries::All => self.attention(graph, &key_value, &key_value),
            Queries::Class => {
                let first = graph.integers("index.class.kept", &[0]);
                let mut class = |x: &Value| graph.node("Gather", &[x, &first], &[Attribute::Int("axis", 1)]); // [B, 1, W]
                let query = class(&normed);
                x = class(&x);
                let query = self.input(graph, &query, Range::AroundZero);
                self.attention(graph, &query, &key_value)
            }
        });
        let (x, normed) = Tokens { x, update }.norm(graph, &format!("{name}.norm2"), &block.norm2);
        let normed = self.input(graph, &normed, Range::AroundZero);
        let hidden = self.linear(graph, "fc1", &block.fc1, &normed);
        let hidden = match block.activation {
            Activation::QuickGelu => {
                let slope = graph.scalar("quick_gelu.slope", 1.702);
                let scaled = graph.node("Mul", &[&hidden, &slope], &[]);
                let gate = graph.node("Sigmoid", &[&scaled], &[]);
                graph.node("Mul", &[&hidden, &gate], &[])
            }
            Activation::Gelu => graph.node("Gelu", &[&hidden], &[Attribute::Text("approximate", "none")]),
        };
        let hidden = self.input(graph, &hidden, Range::AboveGeluFloor);
        Tokens { x, update: Some(self.linear(graph, "fc2", &block.fc2, &hidden)) }
    }

    /// Attention of the tokens `queries` [B, Q, W] to `tokens` [B, L, W] → [B, Q, W].
    fn attention(&self, graph: &mut Graph, queries: &Input, tokens: &Input) -> Value {
        let block = self.block;
        let width = block.query.weight.size()[0];
        let head_width = width / block.heads;
        let split = graph.integers("shape.split", &[0, 0, block.heads, head_width]);
        let heads_first = |graph: &mut Graph, part: &str, layer: &Linear, x: &Input, perm: &[i64]| {
            let projected = self.linear(graph, part, layer, x);
            let parts = graph.node("Reshape", &[&projected, &split], &[]); // [B, L, H, W/H]
            graph.node("Transpose", &[&parts], &[Attribute::Ints("perm", perm)])
        };
        let query = heads_first(graph, "query", &block.query, queries, &[0, 2, 1, 3]); // [B, H, Q, W/H]
        let key = heads_first(graph, "key", &block.key, tokens, &[0, 2, 3, 1]); // [B, H, W/H, L]
        let value = heads_first(graph, "value", &block.value, tokens, &[0, 2, 1, 3]);
        let scores = graph.node("MatMul", &[&query, &key], &[]);
        let scale = graph.scalar("attention.scale", 1.0 / (head_width as f32).sqrt());
        let scores = graph.node("Mul", &[&scores, &scale], &[]);
        let weights = graph.node("Softmax", &[&scores], &[Attribute::Int("axis", -1)]);
        let mixed = graph.node("MatMul", &[&weights, &value], &[]);
        let mixed = graph.node("Transpose", &[&mixed], &[Attribute::Ints("perm", &[0, 2, 1, 3])]);
        let merge = graph.integers("shape.merge", &[0, 0, width]);
        let merged = graph.node("Reshape", &[&mixed, &merge], &[]);
        let merged = self.input(graph, &merged, Range::AroundZero);
        self.linear(graph, "out", &block.out, &merged)
    }

    /// Prepares `x` once for all the layers that read it.
    fn input(&self, graph: &mut Graph, x: &Value, range: Range) -> Input {
        match self.precision {
            Precision::Fp32 | Precision::Fp16 => Input::Plain(x.clone()),
            Precision::Int8 => Input::Rounded(Rounded::new(graph, x, range)),
        }
    }

    fn linear(&self, graph: &mut Graph, part: &str, layer: &Linear, x: &Input) -> Value {
        let name = format!("{}.{part}", self.name);
        match x {
            Input::Plain(x) => linear(graph, &name, layer, x),
            Input::Rounded(x) => int8::linear(graph, &name, layer, x),
        }
    }
}

/// Weights are stored as MatMul reads them, [in, out], so that no runtime keeps a transposed copy.
fn linear(graph: &mut Graph, name: &str, layer: &Linear, x: &Value) -> Value {
    let weight = graph.weight(&format!("{name}.weight"), &layer.weight.tr());
    let bias = graph.weight(&format!("{name}.bias"), &layer.bias);
    let product = graph.node("MatMul", &[x, &weight], &[]);
    graph.node("Add", &[&product, &bias], &[])
}

fn layer_norm(graph: &mut Graph, name: &str, norm: &LayerNorm, x: &Value) -> Value {
    let weight = graph.weight(&format!("{name}.weight"), &norm.weight);
    let bias = graph.weight(&format!("{name}.bias"), &norm.bias);
    let epsilon = [Attribute::Int("axis", -1), Attribute::Float("epsilon", norm.eps as f32)];
    graph.node("LayerNormalization", &[x, &weight, &bias], &epsilon)
}

fn normalised(graph: &mut Graph, x: &Value) -> Value {
    let axes = graph.integers("axes.last", &[-1]);
    let length = graph.node("ReduceL2", &[x, &axes], &[Attribute::Int("keepdims", 1)]);
    graph.node("Div", &[x, &length], &[])
}
