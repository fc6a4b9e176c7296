//! A BERT model in a directory, in the layout of sentence-transformers: `config.json`,
//! `tokenizer.json`, `model.safetensors`.
//!
//! A text is cut into word pieces, the [encoder] makes a vector of each in its context, and the
//! text's vector is their mean (or the first one, according to the model). `1_Pooling/config.json`
//! and `sentence_bert_config.json` are read if they exist.
//!
//! *Promises.* A directory without a supported model is refused when it is opened, with what is
//! missing or not understood. The vector of a text does not depend on the others of its batch,
//! except for rounding.
//!
//! *Limits.* The whole model is in memory, in 32-bit floats. A text is truncated at the model's
//! longest one, at most [`PIECES_MAX`] word pieces.
//!
//! [encoder]: https://arxiv.org/abs/1810.04805 "Devlin et al., BERT, section 3"

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use ai_factory_actors::ports::embedder::{AsyncEmbedder, EmbedError, ModelIdentity, NextTry};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use serde::Deserialize;
use tokenizers::{PaddingParams, Tokenizer, TruncationParams};

mod encoder;

use super::normalise;
use encoder::{BertConfig, Encoder};

/// Word pieces read of one text, whatever the model allows.
const PIECES_MAX: usize = 512;
/// Special word pieces around each text.
const PIECES_AROUND: usize = 2;
/// Texts per batch: more take more memory and no less time.
const TEXTS_MAX: usize = 8;

/// How the vectors of the word pieces become that of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pooling {
    /// Their mean.
    Mean,
    /// The first one.
    First,
}

/// `1_Pooling/config.json`. Pooling modes other than the named ones are refused.
#[derive(Deserialize)]
struct PoolingFile {
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(flatten)]
    others: serde_json::Map<String, serde_json::Value>,
}

impl PoolingFile {
    fn pooling(&self) -> Option<Pooling> {
        let is_other = |(name, value): (&String, &serde_json::Value)| {
            name.starts_with("pooling_mode") && *value == true
        };
        match (self.pooling_mode_mean_tokens, self.pooling_mode_cls_token) {
            _ if self.others.iter().any(is_other) => None,
            (true, false) => Some(Pooling::Mean),
            (false, true) => Some(Pooling::First),
            _ => None,
        }
    }
}

/// `sentence_bert_config.json`.
#[derive(Deserialize)]
struct LengthFile {
    max_seq_length: Option<usize>,
}

/// A BERT model.
pub struct Bert {
    identity: ModelIdentity,
    parts: Arc<ModelParts>,
    pieces_max: usize,
}

struct ModelParts {
    tokenizer: Tokenizer,
    encoder: Encoder,
    pooling: Pooling,
}

impl Bert {
    /// Reads the directory. An error is a sentence that names the file and the fault.
    pub fn open(directory: &Path) -> Result<Self, String> {
        let files = ModelFiles::new(directory)?;
        let config = files.read_required("config.json")?;
        let shape: BertConfig = files.read("config.json", &config)?;
        files.refused(shape.check(), "config.json")?;
        let tokenizer_bytes = files.read_required("tokenizer.json")?;
        let mut tokenizer = Tokenizer::from_bytes(&tokenizer_bytes)
            .map_err(|error| files.wrong("tokenizer.json", &error))?;
        let weights = files.read_required("model.safetensors")?;

        let mut hasher = blake3::Hasher::new();
        let mut pooling = Pooling::Mean;
        if let Some(bytes) = files.optional("1_Pooling/config.json")? {
            let file: PoolingFile = files.read("1_Pooling/config.json", &bytes)?;
            let asked = file
                .pooling()
                .ok_or("only the mean of all word pieces, or the first one, is supported");
            pooling = asked.map_err(|error| files.wrong("1_Pooling/config.json", &error))?;
        }
        let mut pieces_max = shape.pieces_max().min(PIECES_MAX);
        if let Some(bytes) = files.optional("sentence_bert_config.json")? {
            let file: LengthFile = files.read("sentence_bert_config.json", &bytes)?;
            pieces_max = pieces_max.min(file.max_seq_length.unwrap_or(pieces_max));
        }
        if pieces_max <= PIECES_AROUND {
            let reason = format!("texts of {pieces_max} word pieces are too short");
            return Err(files.wrong("sentence_bert_config.json", &reason));
        }
        for part in [&config, &tokenizer_bytes, &weights] {
            hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
        }
        hasher.update(format!("{pooling:?} {pieces_max}").as_bytes());

        let truncation = TruncationParams { max_length: pieces_max, ..TruncationParams::default() };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(|error| files.wrong("tokenizer.json", &error))?
            .with_padding(Some(PaddingParams::default()));
        let encoder = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)
            .and_then(|weights| Encoder::new(&shape, weights))
            .map_err(|error| files.wrong("model.safetensors", &error))?;
        if tokenizer.get_vocab_size(true) > shape.words() {
            let reason = "it has more word pieces than the model";
            return Err(files.wrong("tokenizer.json", &reason));
        }
        let name = directory.file_name().unwrap_or(directory.as_os_str());
        Ok(Self {
            identity: ModelIdentity {
                name: name.to_string_lossy().into_owned(),
                dimensions: shape.dimensions(),
                checksum: hasher.finalize().to_hex().to_string(),
            },
            parts: Arc::new(ModelParts { tokenizer, encoder, pooling }),
            pieces_max,
        })
    }

    fn failed(&self, reason: &impl ToString) -> EmbedError {
        EmbedError {
            model: self.identity.name.clone(),
            reason: reason.to_string(),
            next: NextTry::OtherTexts,
        }
    }
}

impl ModelParts {
    fn embed(&self, texts: Vec<String>) -> tokenizers::Result<Vec<Vec<f32>>> {
        let encoded = self.tokenizer.encode_batch(texts, true)?;
        let rows = |of: fn(&tokenizers::Encoding) -> &[u32]| -> candle_core::Result<Tensor> {
            let rows: Vec<Tensor> = encoded
                .iter()
                .map(|text| Tensor::new(of(text), &Device::Cpu))
                .collect::<candle_core::Result<_>>()?;
            Tensor::stack(&rows, 0)
        };
        let pieces = rows(tokenizers::Encoding::get_ids)?;
        let mask = rows(tokenizers::Encoding::get_attention_mask)?.to_dtype(DType::F32)?;
        let hidden = self.encoder.forward(&pieces, &mask)?;
        let pooled = match self.pooling {
            Pooling::First => hidden.narrow(1, 0, 1)?.squeeze(1)?,
            Pooling::Mean => {
                let counted = hidden.broadcast_mul(&mask.unsqueeze(2)?)?.sum(1)?;
                counted.broadcast_div(&mask.sum_keepdim(1)?)?
            }
        };
        Ok(pooled.to_vec2::<f32>()?.into_iter().map(normalise).collect())
    }
}

#[async_trait::async_trait]
impl AsyncEmbedder for Bert {
    fn name(&self) -> &str {
        &self.identity.name
    }

    fn identity(&self) -> Option<ModelIdentity> {
        Some(self.identity.clone())
    }

    fn recognises(&self, found: &ModelIdentity) -> bool {
        *found == self.identity
    }

    fn text_bytes_max(&self) -> usize {
        // In dense source code a word piece has two and a half bytes.
        (self.pieces_max - PIECES_AROUND) * 5 / 2
    }

    fn texts_max(&self) -> usize {
        TEXTS_MAX
    }

    async fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let parts = Arc::clone(&self.parts);
        tokio::task::spawn_blocking(move || parts.embed(texts))
            .await
            .map_err(|error| self.failed(&error))?
            .map_err(|error| self.failed(&error))
    }
}

/// The files of a model.
struct ModelFiles {
    directory: PathBuf,
}

impl ModelFiles {
    fn new(directory: &Path) -> Result<Self, String> {
        if !directory.is_dir() {
            return Err(format!(
                "{} is no directory: name one with a model's config.json, tokenizer.json and model.safetensors",
                directory.display()
            ));
        }
        Ok(Self { directory: directory.to_owned() })
    }

    fn optional(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        match fs::read(self.directory.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.wrong(name, &error)),
        }
    }

    fn read_required(&self, name: &str) -> Result<Vec<u8>, String> {
        self.optional(name)?.ok_or_else(|| {
            format!(
                "{} is no embedding model: it has no {name}; download all files of a sentence-transformers BERT model",
                self.directory.display()
            )
        })
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str, bytes: &[u8]) -> Result<T, String> {
        serde_json::from_slice(bytes).map_err(|error| self.wrong(name, &error))
    }

    fn refused(&self, checked: Result<(), String>, name: &str) -> Result<(), String> {
        checked.map_err(|reason| self.wrong(name, &reason))
    }

    fn wrong(&self, name: &str, reason: &(impl ToString + ?Sized)) -> String {
        let reason = reason.to_string();
        format!("{} cannot be used: {reason}", self.directory.join(name).display())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A tiny model with random weights. `make.py` beside it documents how it and its vectors were
    /// made, the latter by another implementation.
    fn given() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/bert")
    }

    #[derive(Deserialize)]
    struct ExpectedVectors {
        text: String,
        mean: Vec<f32>,
        cls: Vec<f32>,
    }

    fn expected() -> Vec<ExpectedVectors> {
        serde_json::from_slice(&fs::read(given().join("expected.json")).unwrap()).unwrap()
    }

    /// A copy of the model with some files written and some removed.
    fn changed(written: &[(&str, &[u8])], removed: &[&str]) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for file in fs::read_dir(given()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
        for (name, bytes) in written {
            let path = copy.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        for name in removed {
            fs::remove_file(copy.path().join(name)).unwrap();
        }
        copy
    }

    fn pooling(value: &Value) -> tempfile::TempDir {
        changed(&[("1_Pooling/config.json", value.to_string().as_bytes())], &[])
    }

    fn config(name: &str, value: Value) -> tempfile::TempDir {
        let bytes = fs::read(given().join("config.json")).unwrap();
        let mut config: Value = serde_json::from_slice(&bytes).unwrap();
        config[name] = value;
        changed(&[("config.json", config.to_string().as_bytes())], &[])
    }

    fn assert_near(found: &[f32], expected: &[f32], what: &str) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 2e-5, "{what}: {found} for {expected}");
        }
    }

    #[tokio::test]
    async fn vectors_are_those_of_another_implementation_alone_and_beside_others() {
        let model = Bert::open(&given()).unwrap();
        let texts = expected();
        for text in &texts {
            let found = model.embed(&[&text.text]).await.unwrap();
            assert_near(&found[0], &text.mean, &text.text);
        }
        let all: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
        let found = model.embed(&all).await.unwrap();
        assert_eq!(found.len(), texts.len());
        for (found, text) in found.iter().zip(&texts) {
            assert_near(found, &text.mean, &text.text);
        }
        assert!(model.embed(&[]).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_first_vector_is_taken_where_the_model_says_so() {
        let first =
            pooling(&json!({ "pooling_mode_cls_token": true, "word_embedding_dimension": 32 }));
        let model = Bert::open(first.path()).unwrap();
        for text in expected() {
            let found = model.embed(&[&text.text]).await.unwrap();
            assert_near(&found[0], &text.cls, &text.text);
        }
        let mean =
            pooling(&json!({ "pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": false }));
        let models = [Bert::open(&given()).unwrap(), Bert::open(mean.path()).unwrap(), model];
        let checksums = models.map(|model| model.identity.checksum);
        assert_eq!(checksums[0], checksums[1], "the mean is what is taken where nothing is said");
        assert_ne!(checksums[0], checksums[2]);
    }

    #[tokio::test]
    async fn a_text_ends_where_the_model_says() {
        let short = changed(&[("sentence_bert_config.json", br#"{"max_seq_length": 5}"#)], &[]);
        let model = Bert::open(short.path()).unwrap();
        let (short, long) = ("the kettle is", "the kettle is blue, unheard-of");
        let found = model.embed(&[short, long]).await.unwrap();
        assert_near(&found[0], &found[1], "the rest is not read");
        let whole = Bert::open(&given()).unwrap().embed(&[short, long]).await.unwrap();
        assert!(whole[0] != whole[1]);
        assert!(model.text_bytes_max() >= short.len() / 2);
    }

    #[test]
    fn a_directory_that_is_no_model_is_refused_with_what_is_missing_or_wrong() {
        let cut = fs::read(given().join("model.safetensors")).unwrap();
        let cases = [
            (changed(&[], &["config.json"]), "has no config.json"),
            (changed(&[], &["tokenizer.json"]), "has no tokenizer.json"),
            (changed(&[], &["model.safetensors"]), "has no model.safetensors"),
            (changed(&[("config.json", b"{")], &[]), "config.json cannot be used"),
            (changed(&[("tokenizer.json", b"{}")], &[]), "tokenizer.json cannot be used"),
            (
                changed(&[("model.safetensors", &cut[..9000])], &[]),
                "model.safetensors cannot be used",
            ),
            (changed(&[("model.safetensors", b"")], &[]), "model.safetensors cannot be used"),
            (config("model_type", json!("roberta")), "`roberta`"),
            (config("num_attention_heads", json!(5)), "5 heads"),
            (config("num_hidden_layers", json!(3)), "encoder.layer.2"),
            (config("hidden_act", json!("sine")), "`sine`"),
            (config("vocab_size", json!(9)), "model.safetensors cannot be used"),
            (config("position_embedding_type", json!("relative_key")), "`relative_key`"),
            (pooling(&json!({ "pooling_mode_max_tokens": true })), "only the mean"),
            (
                pooling(
                    &json!({ "pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": true }),
                ),
                "only the mean",
            ),
            (
                changed(&[("sentence_bert_config.json", br#"{"max_seq_length": 2}"#)], &[]),
                "too short",
            ),
        ];
        for (directory, expected) in cases {
            let refused = Bert::open(directory.path()).err().unwrap_or_default();
            assert!(refused.contains(expected), "{refused:?} does not say {expected:?}");
        }
        let refused = Bert::open(&given().join("config.json")).err().unwrap();
        assert!(refused.contains("is no directory"), "{refused}");
    }
}
