//! The encoder: layers of attention over word pieces (Devlin et al., 2019; Vaswani et al., 2017,
//! section 3.2).

use candle_core::{D, Result, Tensor};
use candle_nn::{
    Activation, Embedding, LayerNorm, Linear, Module, VarBuilder, embedding, layer_norm, linear,
    ops::softmax_last_dim,
};
use serde::Deserialize;

/// Added to the attention scores of padding, whose softmax is then 0.
const MASKED: f64 = -1e9;

/// `config.json`: the sizes of the model.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct BertConfig {
    model_type: String,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    vocab_size: usize,
    layer_norm_eps: f64,
    hidden_act: Activation,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

impl BertConfig {
    /// Why this model is not supported, if it is not.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        if self.model_type != "bert" {
            return Err(format!("the model is of type `{}`, not `bert`", self.model_type));
        }
        if let Some(kind) = &self.position_embedding_type
            && kind != "absolute"
        {
            return Err(format!("positions are `{kind}`, not `absolute`"));
        }
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        if heads == 0 || hidden == 0 || hidden % heads != 0 {
            return Err(format!("a hidden size of {hidden} cannot be divided among {heads} heads"));
        }
        Ok(())
    }

    /// Length of a vector, in components.
    pub(super) fn dimensions(&self) -> usize {
        self.hidden_size
    }

    /// Size of the vocabulary, in word pieces.
    pub(super) fn words(&self) -> usize {
        self.vocab_size
    }

    /// Longest text, in word pieces.
    pub(super) fn pieces_max(&self) -> usize {
        self.max_position_embeddings
    }
}

/// The encoder with its weights.
pub(super) struct Encoder {
    words: Embedding,
    positions: Embedding,
    kinds: Embedding,
    norm: LayerNorm,
    layers: Vec<EncoderLayer>,
}

impl Encoder {
    /// Takes its weights by name; in some files the names begin with `bert.`.
    pub(super) fn new(shape: &BertConfig, weights: VarBuilder<'_>) -> Result<Self> {
        let weights = if weights.contains_tensor("bert.embeddings.word_embeddings.weight") {
            weights.pp("bert")
        } else {
            weights
        };
        let (at, size) = (weights.pp("embeddings"), shape.hidden_size);
        let layers = weights.pp("encoder").pp("layer");
        Ok(Self {
            words: embedding(shape.vocab_size, size, at.pp("word_embeddings"))?,
            positions: embedding(
                shape.max_position_embeddings,
                size,
                at.pp("position_embeddings"),
            )?,
            kinds: embedding(shape.type_vocab_size, size, at.pp("token_type_embeddings"))?,
            norm: layer_norm(size, shape.layer_norm_eps, at.pp("LayerNorm"))?,
            layers: (0..shape.num_hidden_layers)
                .map(|number| EncoderLayer::new(shape, &layers.pp(number)))
                .collect::<Result<_>>()?,
        })
    }

    /// A vector for each word piece of each text; `mask` is 1 for word pieces and 0 for padding.
    pub(super) fn forward(&self, pieces: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (_, length) = pieces.dims2()?;
        let length = u32::try_from(length).map_err(candle_core::Error::wrap)?;
        let positions = self.positions.forward(&Tensor::arange(0, length, pieces.device())?)?;
        let kinds = self.kinds.forward(&pieces.zeros_like()?)?;
        let summed = (self.words.forward(pieces)? + kinds)?.broadcast_add(&positions)?;
        let hidden = self.norm.forward(&summed)?;
        let over = mask.affine(-1.0, 1.0)?.affine(MASKED, 0.0)?.unsqueeze(1)?.unsqueeze(1)?;
        self.layers.iter().try_fold(hidden, |hidden, layer| layer.forward(&hidden, &over))
    }
}

struct EncoderLayer {
    query: Linear,
    key: Linear,
    value: Linear,
    attended: Linear,
    attended_norm: LayerNorm,
    wide: Linear,
    activation: Activation,
    narrow: Linear,
    norm: LayerNorm,
    heads: usize,
}

impl EncoderLayer {
    fn new(shape: &BertConfig, at: &VarBuilder<'_>) -> Result<Self> {
        let (size, wide, eps) = (shape.hidden_size, shape.intermediate_size, shape.layer_norm_eps);
        let attention = at.pp("attention");
        let (own, after) = (attention.pp("self"), attention.pp("output"));
        Ok(Self {
            query: linear(size, size, own.pp("query"))?,
            key: linear(size, size, own.pp("key"))?,
            value: linear(size, size, own.pp("value"))?,
            attended: linear(size, size, after.pp("dense"))?,
            attended_norm: layer_norm(size, eps, after.pp("LayerNorm"))?,
            wide: linear(size, wide, at.pp("intermediate").pp("dense"))?,
            activation: shape.hidden_act,
            narrow: linear(wide, size, at.pp("output").pp("dense"))?,
            norm: layer_norm(size, eps, at.pp("output").pp("LayerNorm"))?,
            heads: shape.num_attention_heads,
        })
    }

    fn forward(&self, hidden: &Tensor, over: &Tensor) -> Result<Tensor> {
        let attended = self.attended.forward(&self.attention(hidden, over)?)?;
        let attended = self.attended_norm.forward(&(attended + hidden)?)?;
        let wide = self.activation.forward(&self.wide.forward(&attended)?)?;
        self.norm.forward(&(self.narrow.forward(&wide)? + attended)?)
    }

    /// softmax(QKᵀ/√d)V for each head.
    fn attention(&self, hidden: &Tensor, over: &Tensor) -> Result<Tensor> {
        let (texts, pieces, size) = hidden.dims3()?;
        let each = size / self.heads;
        let by_head = |projected: Tensor| {
            projected.reshape((texts, pieces, self.heads, each))?.transpose(1, 2)?.contiguous()
        };
        let query = by_head(self.query.forward(hidden)?)?;
        let key = by_head(self.key.forward(hidden)?)?;
        let value = by_head(self.value.forward(hidden)?)?;
        #[expect(clippy::cast_precision_loss, reason = "a head has some dozens")]
        let scale = 1.0 / (each as f64).sqrt();
        let scores = query.matmul(&key.t()?)?.affine(scale, 0.0)?.broadcast_add(over)?;
        let found = softmax_last_dim(&scores)?.matmul(&value)?;
        found.transpose(1, 2)?.contiguous()?.flatten_from(D::Minus2)
    }
}
