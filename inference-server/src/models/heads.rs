//! From the hidden states of a packed batch to the answer for each row.
//!
//! Everything here works on one row at a time, so that no result depends on how many rows share the
//! batch.

use std::path::Path;

use candle_core::{Device, Result, Tensor};
use candle_nn::{LayerNorm, Linear, Module as _};

use crate::models::checkpoint::{Activation, EncoderConfig};
use crate::models::encoder::modernbert::{ClassifierPooling, ModernSettings};
use crate::models::sentence_transformers::{DenseActivation, Module, SentenceSettings};
use crate::models::weights::Weights;
use crate::models::{Extras, Pooling, RowOutput};

/// What an encoder answers with.
pub(crate) enum Head {
    /// One vector per row, and more where asked.
    Pooled(Box<Pooled>),
    /// Logits per token.
    Labels(TokenHead),
    /// Logits per row.
    Text(TextHead),
}

impl Head {
    /// One output per row; `hidden` is tokens × width, the rows of `lengths` one after the other.
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
        let [values, sparse, multi_vector] =
            [0, 1, 2].map(|part| fetched(rows.iter().map(move |row| &row[part])));
        let parts = values?.into_iter().zip(sparse?).zip(multi_vector?);
        Ok(parts.map(|((values, sparse), multi_vector)| RowOutput { values, sparse, multi_vector }).collect())
    }

    /// The head and its pooling where these extras leave it nothing to do with single tokens.
    pub(crate) fn pools(&self, extras: Extras) -> Option<(&Pooled, Pooling)> {
        let Self::Pooled(head) = self else { return None };
        let tokens =
            (extras.sparse && head.sparse.is_some()) || (extras.multi_vector && head.multi_vector.is_some());
        (!tokens).then_some((&**head, head.pooling))
    }

    /// Values, weights and vectors of one row, each flat.
    fn row(&self, tokens: &Tensor, extras: Extras) -> Result<[Option<Tensor>; 3]> {
        match self {
            Self::Labels(head) => Ok([Some(head.logits(tokens)?), None, None]),
            Self::Text(head) => Ok([Some(head.logits(tokens)?), None, None]),
            Self::Pooled(head) => {
                let sparse = head.sparse.as_ref().filter(|_| extras.sparse);
                let multi_vector = head.multi_vector.as_ref().filter(|_| extras.multi_vector);
                Ok([
                    Some(head.vector(tokens)?),
                    sparse.map(|linear| linear.forward(tokens)?.relu()?.flatten_all()).transpose()?,
                    multi_vector.map(|linear| linear.forward(tokens)?.flatten_all()).transpose()?,
                ])
            }
        }
    }
}

/// The numbers of each tensor, by one copy from the device for all; none for an absent one.
fn fetched<'a>(parts: impl Iterator<Item = &'a Option<Tensor>>) -> Result<Vec<Vec<f32>>> {
    let parts: Vec<&Option<Tensor>> = parts.collect();
    let present: Vec<&Tensor> = parts.iter().filter_map(|part| part.as_ref()).collect();
    if present.is_empty() {
        return Ok(vec![Vec::new(); parts.len()]);
    }
    let mut values = Tensor::cat(&present, 0)?.to_vec1::<f32>()?.into_iter();
    let count = |part: &&Option<Tensor>| part.as_ref().map_or(0, Tensor::elem_count);
    Ok(parts.iter().map(|part| values.by_ref().take(count(part)).collect()).collect())
}

/// The head of an embedding model.
pub(crate) struct Pooled {
    device: Device,
    pooling: Pooling,
    stages: Vec<Stage>,
    sparse: Option<Linear>,
    multi_vector: Option<Linear>,
}

enum Stage {
    Dense(Linear, DenseActivation),
    Norm(LayerNorm),
    Unit,
}

impl Pooled {
    /// The pooling and modules of a package, and BGE-M3's two further heads where the package has
    /// them: a weight (`sparse_linear.pt`) and a vector (`colbert_linear.pt`) for each token. Chen
    /// et al. 2024 (arXiv:2402.03216); the reference is FlagEmbedding 1.4,
    /// `finetune/embedder/encoder_only/m3/modeling.py`.
    ///
    /// # Errors
    /// Names the file and the tensor that is missing or misshapen.
    pub(crate) fn load(
        dir: &Path,
        settings: &SentenceSettings,
        config: &EncoderConfig,
        weights: &mut Weights,
    ) -> anyhow::Result<Self> {
        let mut width = config.hidden_size;
        let mut stages = Vec::new();
        for module in &settings.modules {
            stages.push(Stage::load(dir, module, &mut width, weights)?);
        }
        let sparse = weights
            .beside(dir, "sparse_linear.pt", |file| linear(file, "", (config.hidden_size, 1), true))?;
        let multi_vector = weights.beside(dir, "colbert_linear.pt", |file| {
            let outputs = file.shape("weight").and_then(|shape| shape.first().copied()).unwrap_or_default();
            linear(file, "", (config.hidden_size, outputs), true)
        })?;
        let device = weights.device().clone();
        Ok(Self { device, pooling: settings.pooling, stages, sparse, multi_vector })
    }

    /// Whether it weighs tokens, and the length of the vector of a token, 0 where it makes none.
    pub(crate) fn extras(&self) -> (bool, usize) {
        let width = self.multi_vector.as_ref().map_or(0, |linear| linear.weight().dims()[0]);
        (self.sparse.is_some(), width)
    }

    /// The answers for pooled vectors, each by itself.
    ///
    /// # Errors
    /// If the device fails.
    pub(crate) fn finished(&self, vectors: Vec<Vec<f32>>) -> Result<Vec<RowOutput>> {
        if self.stages.is_empty() {
            return Ok(vectors.into_iter().map(RowOutput::from).collect());
        }
        let finish = |vector: Vec<f32>| {
            let width = vector.len();
            Ok(Some(self.staged(Tensor::from_vec(vector, (1, width), &self.device)?)?))
        };
        let parts = vectors.into_iter().map(finish).collect::<Result<Vec<_>>>()?;
        Ok(fetched(parts.iter())?.into_iter().map(RowOutput::from).collect())
    }

    fn vector(&self, tokens: &Tensor) -> Result<Tensor> {
        self.staged(pooled(self.pooling, tokens)?.unsqueeze(0)?)
    }

    /// A vector through the modules after the pooling.
    fn staged(&self, mut vector: Tensor) -> Result<Tensor> {
        for stage in &self.stages {
            vector = stage.forward(&vector)?;
        }
        vector.squeeze(0)
    }
}

fn pooled(pooling: Pooling, tokens: &Tensor) -> Result<Tensor> {
    let count = tokens.dim(0)?;
    match pooling {
        Pooling::Mean => tokens.mean(0),
        Pooling::Cls => tokens.get(0),
        Pooling::Last => tokens.get(count - 1),
        Pooling::Max => tokens.max(0),
        Pooling::MeanSqrtLen => tokens.sum(0)? / (count as f64).sqrt(),
        Pooling::WeightedMean => {
            let weights: Vec<f32> = (1..=count).map(|place| place as f32).collect();
            let total: f32 = weights.iter().sum();
            let weights = Tensor::from_vec(weights, (count, 1), tokens.device())?;
            tokens.broadcast_mul(&weights)?.sum(0)? / f64::from(total)
        }
    }
}

impl Stage {
    /// Reads a module that is given `width` values, and leaves there how many it gives.
    fn load(dir: &Path, module: &Module, width: &mut usize, weights: &mut Weights) -> anyhow::Result<Self> {
        match module {
            Module::Normalize => Ok(Self::Unit),
            Module::LayerNorm { folder } => {
                let names = ["norm.weight", "norm.bias"];
                let [weight, bias] = weights.module(dir, folder, |file| {
                    Ok([file.head(names[0], &[*width])?, file.head(names[1], &[*width])?])
                })?;
                Ok(Self::Norm(LayerNorm::new(weight, bias, 1e-5)))
            }
            Module::Dense { folder, inputs, outputs, bias, activation } => {
                let map = |file: &mut Weights| linear(file, "linear.", (*inputs, *outputs), *bias);
                let map = weights.module(dir, folder, map)?;
                *width = *outputs;
                Ok(Self::Dense(map, *activation))
            }
        }
    }

    fn forward(&self, vector: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense(map, activation) => activated(&map.forward(vector)?, *activation),
            Self::Norm(norm) => norm.forward(vector),
            Self::Unit => {
                let norm = vector.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt().max(1e-12);
                vector / f64::from(norm)
            }
        }
    }
}

fn activated(vector: &Tensor, activation: DenseActivation) -> Result<Tensor> {
    match activation {
        DenseActivation::Identity => Ok(vector.clone()),
        DenseActivation::Tanh => vector.tanh(),
        DenseActivation::Gelu => vector.gelu_erf(),
        DenseActivation::Relu => vector.relu(),
        DenseActivation::Silu => vector.silu(),
        DenseActivation::Sigmoid => candle_nn::ops::sigmoid(vector),
    }
}

/// What a classifier does to a vector before it weighs the classes.
struct Transform {
    dense: Linear,
    /// `None` is tanh.
    activation: Option<Activation>,
    norm: Option<LayerNorm>,
}

impl Transform {
    /// A map that ends in tanh, from tensors whose names begin with `at`.
    fn tanh(weights: &mut Weights, at: &str, hidden: usize) -> anyhow::Result<Self> {
        let dense = linear(weights, at, (hidden, hidden), true)?;
        Ok(Self { dense, activation: None, norm: None })
    }

    /// ModernBERT's prediction head.
    fn modern(weights: &mut Weights, settings: &ModernSettings, hidden: usize) -> anyhow::Result<Self> {
        let has_bias = weights.has("head.dense.bias");
        let dense = linear(weights, "head.dense.", (hidden, hidden), has_bias)?;
        let weight = weights.head("head.norm.weight", &[hidden])?;
        let bias = match weights.has("head.norm.bias") {
            true => weights.head("head.norm.bias", &[hidden])?,
            false => weight.zeros_like()?,
        };
        let norm = LayerNorm::new(weight, bias, settings.norm_eps());
        Ok(Self { dense, activation: Some(settings.classifier().1), norm: Some(norm) })
    }

    fn forward(&self, vectors: &Tensor) -> Result<Tensor> {
        let inner = self.dense.forward(vectors)?;
        let inner = match self.activation {
            Some(activation) => activation.of(&inner)?,
            None => inner.tanh()?,
        };
        self.norm.as_ref().map_or(Ok(inner.clone()), |norm| norm.forward(&inner))
    }
}

/// The head of a token classifier.
pub(crate) struct TokenHead {
    transform: Option<Transform>,
    out: Linear,
}

impl TokenHead {
    /// Reads the head of `…ForTokenClassification` with `labels` classes.
    ///
    /// # Errors
    /// Names the tensor that is missing or misshapen.
    pub(crate) fn load(config: &EncoderConfig, weights: &mut Weights, labels: usize) -> anyhow::Result<Self> {
        let hidden = config.hidden_size;
        let modern = config.modern.as_ref();
        let transform = modern.map(|settings| Transform::modern(weights, settings, hidden)).transpose()?;
        Ok(Self { transform, out: linear(weights, "classifier.", (hidden, labels), true)? })
    }

    fn logits(&self, tokens: &Tensor) -> Result<Tensor> {
        match &self.transform {
            Some(transform) => self.out.forward(&transform.forward(tokens)?)?.flatten_all(),
            None => self.out.forward(tokens)?.flatten_all(),
        }
    }
}

/// The head of a text classifier.
pub(crate) struct TextHead {
    pooling: Pooling,
    transform: Transform,
    out: Linear,
}

impl TextHead {
    /// Reads the head of `…ForSequenceClassification` with `labels` classes. BERT calls the map
    /// before it its pooler.
    ///
    /// # Errors
    /// Names the tensor that is missing or misshapen.
    pub(crate) fn load(config: &EncoderConfig, weights: &mut Weights, labels: usize) -> anyhow::Result<Self> {
        let hidden = config.hidden_size;
        if let Some(settings) = &config.modern {
            let pooling = match settings.classifier().0 {
                ClassifierPooling::Cls => Pooling::Cls,
                ClassifierPooling::Mean => Pooling::Mean,
            };
            let transform = Transform::modern(weights, settings, hidden)?;
            return Ok(Self {
                pooling,
                transform,
                out: linear(weights, "classifier.", (hidden, labels), true)?,
            });
        }
        let (at, out) = match config.family()? {
            "bert" => (weights.encoder_name("pooler.dense."), "classifier."),
            _ => ("classifier.dense.".to_owned(), "classifier.out_proj."),
        };
        let transform = Transform::tanh(weights, &at, hidden)?;
        Ok(Self { pooling: Pooling::Cls, transform, out: linear(weights, out, (hidden, labels), true)? })
    }

    fn logits(&self, tokens: &Tensor) -> Result<Tensor> {
        let vector = pooled(self.pooling, tokens)?.unsqueeze(0)?;
        self.out.forward(&self.transform.forward(&vector)?)?.flatten_all()
    }
}

/// A linear map of so many inputs and outputs whose tensors' names begin with `at`.
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
