//! Heads: from the hidden states of a packed batch to one answer per row.
//!
//! Every head works on one row at a time, so that no result depends on the rest of the batch.

use std::path::Path;

use candle_core::{Device, Result, Tensor};
use candle_nn::{LayerNorm, Linear, Module as _};

use super::checkpoint::activation::Activation;
use super::checkpoint::architecture::Architecture;
use super::checkpoint::encoder_config::EncoderConfig;
use super::checkpoint::library_config::{LibraryConfig, LibraryNetwork};
use super::checkpoint::modernbert_config::{ClassifierPooling, ModernBertConfig};
use super::checkpoint::sentence_transformers::{DenseActivation, Module, SentenceTransformersConfig};
use super::weights::Weights;
use super::{Extras, Pooling, RowOutput};

/// Epsilon of torch's `LayerNorm` by default, which sentence-transformers uses.
const DEFAULT_NORM_EPS: f64 = 1e-5;
/// Lower limit on the norm of a vector that is normalised, as in torch's `functional.normalize`.
const MIN_NORM: f32 = 1e-12;

/// The head of an encoder.
pub(crate) enum Head {
    /// One vector per row, and token outputs on request.
    Embedding(Box<EmbeddingHead>),
    /// Tokens × labels logits per row.
    TokenClassification(TokenClassificationHead),
    /// Logits per row.
    SequenceClassification(SequenceClassificationHead),
}

/// Outputs of one row, each flat.
struct RowTensors {
    values: Tensor,
    sparse: Option<Tensor>,
    multi_vector: Option<Tensor>,
}

impl Head {
    /// One output per row. `hidden` is tokens × width, with the rows of `lengths` one after the
    /// other.
    ///
    /// # Errors
    /// If the device fails.
    pub(crate) fn outputs(
        &self,
        hidden: &Tensor,
        lengths: impl Iterator<Item = usize>,
        extras: Extras,
    ) -> Result<Vec<RowOutput>> {
        let mut start = 0;
        let mut rows = Vec::new();
        for length in lengths {
            rows.push(self.row(&hidden.narrow(0, start, length)?, extras)?);
            start += length;
        }
        // Three copies for the whole batch instead of up to three for each row.
        let values = to_vecs(rows.iter().map(|row| Some(&row.values)))?;
        let sparse = to_vecs(rows.iter().map(|row| row.sparse.as_ref()))?;
        let multi_vector = to_vecs(rows.iter().map(|row| row.multi_vector.as_ref()))?;
        let outputs = values.into_iter().zip(sparse).zip(multi_vector);
        Ok(outputs
            .map(|((values, sparse), multi_vector)| RowOutput { values, sparse, multi_vector })
            .collect())
    }

    /// The embedding head and its pooling, if these extras need pooled vectors alone and no hidden
    /// states of single tokens.
    pub(crate) fn pools_only(&self, extras: Extras) -> Option<(&EmbeddingHead, Pooling)> {
        let Self::Embedding(head) = self else { return None };
        let tokens =
            (extras.sparse && head.sparse.is_some()) || (extras.multi_vector && head.multi_vector.is_some());
        (!tokens).then_some((&**head, head.pooling))
    }

    /// Presence of sparse weights, and length of the vector of a token (0 without one).
    pub(crate) fn extras(&self) -> (bool, usize) {
        let Self::Embedding(head) = self else { return (false, 0) };
        let width = head.multi_vector.as_ref().map_or(0, |linear| linear.weight().dims()[0]);
        (head.sparse.is_some(), width)
    }

    fn row(&self, tokens: &Tensor, extras: Extras) -> Result<RowTensors> {
        match self {
            Self::TokenClassification(head) => {
                Ok(RowTensors { values: head.logits(tokens)?, sparse: None, multi_vector: None })
            }
            Self::SequenceClassification(head) => {
                Ok(RowTensors { values: head.logits(tokens)?, sparse: None, multi_vector: None })
            }
            Self::Embedding(head) => {
                let sparse = head.sparse.as_ref().filter(|_| extras.sparse);
                let multi_vector = head.multi_vector.as_ref().filter(|_| extras.multi_vector);
                Ok(RowTensors {
                    values: head.vector(tokens)?,
                    sparse: sparse.map(|linear| linear.forward(tokens)?.relu()?.flatten_all()).transpose()?,
                    multi_vector: multi_vector
                        .map(|linear| linear.forward(tokens)?.flatten_all())
                        .transpose()?,
                })
            }
        }
    }
}

/// The numbers of each flat tensor; empty for an absent one. They are copied from the device all at
/// once, as each copy would wait for the device.
fn to_vecs<'a>(tensors: impl Iterator<Item = Option<&'a Tensor>>) -> Result<Vec<Vec<f32>>> {
    let tensors: Vec<Option<&Tensor>> = tensors.collect();
    let present: Vec<&Tensor> = tensors.iter().copied().flatten().collect();
    // `cat` refuses an empty list.
    if present.is_empty() {
        return Ok(vec![Vec::new(); tensors.len()]);
    }
    let mut values = Tensor::cat(&present, 0)?.to_vec1::<f32>()?.into_iter();
    let mut vecs = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let count = tensor.map_or(0, Tensor::elem_count);
        vecs.push(values.by_ref().take(count).collect());
    }
    Ok(vecs)
}

/// The head of an embedding model: pooling, then the modules of its package.
pub(crate) struct EmbeddingHead {
    device: Device,
    pooling: Pooling,
    stages: Vec<Stage>,
    /// Hidden states to one weight per token.
    sparse: Option<Linear>,
    /// Hidden states to one vector per token.
    multi_vector: Option<Linear>,
}

/// A module that is applied to the pooled vector.
enum Stage {
    Dense(Linear, DenseActivation),
    LayerNorm(LayerNorm),
    Normalize,
}

impl EmbeddingHead {
    /// Reads the modules of a package, and BGE-M3's heads for token outputs if the package has
    /// them: sparse weights (`sparse_linear.pt`) and one vector per token (`colbert_linear.pt`).
    /// Chen et al. 2024 (arXiv:2402.03216); the reference is FlagEmbedding 1.4,
    /// `finetune/embedder/encoder_only/m3/modeling.py`.
    ///
    /// # Errors
    /// Names the file and the tensor that is missing or has another shape.
    pub(crate) fn load(
        dir: &Path,
        settings: &SentenceTransformersConfig,
        config: &EncoderConfig,
        weights: &mut Weights,
    ) -> anyhow::Result<Self> {
        let mut width = config.hidden_size;
        let mut stages = Vec::new();
        for module in &settings.modules {
            stages.push(Stage::load(dir, module, &mut width, weights)?);
        }
        let sparse = weights
            .side_file(dir, "sparse_linear.pt", |file| linear(file, "", (config.hidden_size, 1), true))?;
        let multi_vector = weights.side_file(dir, "colbert_linear.pt", |file| {
            // No configuration states the width, so the tensor itself does.
            let outputs = file.shape("weight").and_then(|shape| shape.first().copied()).unwrap_or_default();
            linear(file, "", (config.hidden_size, outputs), true)
        })?;
        let device = weights.device().clone();
        Ok(Self { device, pooling: settings.pooling, stages, sparse, multi_vector })
    }

    /// The outputs of rows whose vectors the backbone has pooled.
    ///
    /// # Errors
    /// If the device fails.
    pub(crate) fn outputs_of_pooled(&self, vectors: Vec<Vec<f32>>) -> Result<Vec<RowOutput>> {
        // Most packages have no modules but Normalize, which is left to the service.
        if self.stages.is_empty() {
            return Ok(vectors.into_iter().map(RowOutput::from).collect());
        }
        let mut outputs = Vec::with_capacity(vectors.len());
        for vector in vectors {
            let width = vector.len();
            outputs.push(self.apply_stages(Tensor::from_vec(vector, (1, width), &self.device)?)?);
        }
        Ok(to_vecs(outputs.iter().map(Some))?.into_iter().map(RowOutput::from).collect())
    }

    fn vector(&self, tokens: &Tensor) -> Result<Tensor> {
        self.apply_stages(pool(self.pooling, tokens)?.unsqueeze(0)?)
    }

    /// Applies the modules after the pooling to a vector, 1 × width.
    fn apply_stages(&self, mut vector: Tensor) -> Result<Tensor> {
        for stage in &self.stages {
            vector = stage.forward(&vector)?;
        }
        vector.squeeze(0)
    }
}

/// Pools hidden states, tokens × width, into one vector.
fn pool(pooling: Pooling, tokens: &Tensor) -> Result<Tensor> {
    let count = tokens.dim(0)?;
    match pooling {
        Pooling::Mean => tokens.mean(0),
        Pooling::Cls => tokens.get(0),
        // Rows are not padded, so the last token is the last row.
        Pooling::Last => tokens.get(count - 1),
        Pooling::Max => tokens.max(0),
        Pooling::MeanSqrtLen => tokens.sum(0)? / (count as f64).sqrt(),
        Pooling::WeightedMean => {
            // Weights count from 1, as in sentence-transformers: the first token must not vanish.
            let weights: Vec<f32> = (1..=count).map(|position| position as f32).collect();
            let total: f32 = weights.iter().sum();
            let weights = Tensor::from_vec(weights, (count, 1), tokens.device())?;
            tokens.broadcast_mul(&weights)?.sum(0)? / f64::from(total)
        }
    }
}

impl Stage {
    /// Reads a module whose input has `width` values, and sets `width` to that of its output.
    fn load(dir: &Path, module: &Module, width: &mut usize, weights: &mut Weights) -> anyhow::Result<Self> {
        match module {
            Module::Normalize => Ok(Self::Normalize),
            Module::LayerNorm { folder } => {
                let names = ["norm.weight", "norm.bias"];
                let [weight, bias] = weights.module(dir, folder, |file| {
                    Ok([file.head(names[0], &[*width])?, file.head(names[1], &[*width])?])
                })?;
                Ok(Self::LayerNorm(LayerNorm::new(weight, bias, DEFAULT_NORM_EPS)))
            }
            Module::Dense { folder, inputs, outputs, bias, activation } => {
                let dense = weights
                    .module(dir, folder, |file| linear(file, "linear.", (*inputs, *outputs), *bias))?;
                *width = *outputs;
                Ok(Self::Dense(dense, *activation))
            }
        }
    }

    fn forward(&self, vector: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense(linear, activation) => activate(&linear.forward(vector)?, *activation),
            Self::LayerNorm(norm) => norm.forward(vector),
            Self::Normalize => {
                let norm = vector.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt().max(MIN_NORM);
                vector / f64::from(norm)
            }
        }
    }
}

fn activate(vector: &Tensor, activation: DenseActivation) -> Result<Tensor> {
    match activation {
        DenseActivation::Identity => Ok(vector.clone()),
        DenseActivation::Tanh => vector.tanh(),
        DenseActivation::Gelu => vector.gelu_erf(),
        DenseActivation::Relu => vector.relu(),
        DenseActivation::Silu => vector.silu(),
        DenseActivation::Sigmoid => candle_nn::ops::sigmoid(vector),
    }
}

/// The layer between a vector and the classifier's output layer: BERT's pooler, RoBERTa's
/// `classifier.dense`, DistilBERT's `pre_classifier`, ModernBERT's prediction head.
struct Transform {
    dense: Linear,
    /// `None` for tanh, which no backbone has as its activation.
    activation: Option<Activation>,
    norm: Option<LayerNorm>,
}

impl Transform {
    /// A linear layer and an activation, tanh if `None`; names of its tensors begin with `at`.
    fn plain(
        weights: &mut Weights,
        at: &str,
        hidden: usize,
        activation: Option<Activation>,
    ) -> anyhow::Result<Self> {
        let dense = linear(weights, at, (hidden, hidden), true)?;
        Ok(Self { dense, activation, norm: None })
    }

    /// ModernBERT's prediction head.
    fn modern(weights: &mut Weights, config: &ModernBertConfig, hidden: usize) -> anyhow::Result<Self> {
        let has_bias = weights.has("head.dense.bias");
        let dense = linear(weights, "head.dense.", (hidden, hidden), has_bias)?;
        let weight = weights.head("head.norm.weight", &[hidden])?;
        let bias = match weights.has("head.norm.bias") {
            true => weights.head("head.norm.bias", &[hidden])?,
            // Zeros rather than none: candle has a fused kernel only for norms with a bias.
            false => weight.zeros_like()?,
        };
        let norm = LayerNorm::new(weight, bias, config.norm_eps);
        Ok(Self { dense, activation: Some(config.classifier_activation), norm: Some(norm) })
    }

    fn forward(&self, vectors: &Tensor) -> Result<Tensor> {
        let inner = self.dense.forward(vectors)?;
        let inner = match self.activation {
            Some(activation) => activation.apply(&inner)?,
            None => inner.tanh()?,
        };
        self.norm.as_ref().map_or(Ok(inner.clone()), |norm| norm.forward(&inner))
    }
}

/// The head of `…ForTokenClassification`.
pub(crate) struct TokenClassificationHead {
    transform: Option<Transform>,
    out: Linear,
}

impl TokenClassificationHead {
    /// Reads a head with `labels` classes.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape.
    pub(crate) fn load(config: &EncoderConfig, weights: &mut Weights, labels: usize) -> anyhow::Result<Self> {
        let hidden = config.hidden_size;
        let modern = config.modern.as_ref();
        let transform = modern.map(|config| Transform::modern(weights, config, hidden)).transpose()?;
        Ok(Self { transform, out: linear(weights, "classifier.", (hidden, labels), true)? })
    }

    fn logits(&self, tokens: &Tensor) -> Result<Tensor> {
        match &self.transform {
            Some(transform) => self.out.forward(&transform.forward(tokens)?)?.flatten_all(),
            None => self.out.forward(tokens)?.flatten_all(),
        }
    }
}

/// The head of `…ForSequenceClassification`.
pub(crate) struct SequenceClassificationHead {
    pooling: Pooling,
    transform: Transform,
    out: Linear,
}

impl SequenceClassificationHead {
    /// Reads a head with `labels` classes.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape.
    pub(crate) fn load(config: &EncoderConfig, weights: &mut Weights, labels: usize) -> anyhow::Result<Self> {
        let hidden = config.hidden_size;
        if let Some(modern) = &config.modern {
            let pooling = match modern.classifier_pooling {
                ClassifierPooling::Cls => Pooling::Cls,
                ClassifierPooling::Mean => Pooling::Mean,
            };
            let transform = Transform::modern(weights, modern, hidden)?;
            return Ok(Self {
                pooling,
                transform,
                out: linear(weights, "classifier.", (hidden, labels), true)?,
            });
        }
        // BERT has its pooler inside of the encoder, the others a dense layer inside of the head.
        let pooler = weights.encoder_name("pooler.dense.");
        let (at, activation, out) = match (config.architecture, &config.library) {
            (Architecture::Bert, _) => (pooler.as_str(), None, "classifier."),
            (Architecture::DistilBert, _) => ("pre_classifier.", Some(Activation::Relu), "classifier."),
            (_, Some(LibraryConfig { network: LibraryNetwork::Deberta(_, pooler), .. })) => {
                ("pooler.dense.", Some(*pooler), "classifier.")
            }
            _ => ("classifier.dense.", None, "classifier.out_proj."),
        };
        let transform = Transform::plain(weights, at, hidden, activation)?;
        Ok(Self { pooling: Pooling::Cls, transform, out: linear(weights, out, (hidden, labels), true)? })
    }

    fn logits(&self, tokens: &Tensor) -> Result<Tensor> {
        let vector = pool(self.pooling, tokens)?.unsqueeze(0)?;
        self.out.forward(&self.transform.forward(&vector)?)?.flatten_all()
    }
}

/// A linear layer outside of the encoder; names of its tensors begin with `at`.
fn linear(
    weights: &mut Weights,
    at: &str,
    (inputs, outputs): (usize, usize),
    bias: bool,
) -> anyhow::Result<Linear> {
    let weight = weights.head(&format!("{at}weight"), &[outputs, inputs])?;
    let bias = bias.then(|| weights.head(&format!("{at}bias"), &[outputs])).transpose()?;
    Ok(Linear::new(weight, bias))
}
