//! The built-in model: a static table of word pieces, distilled from all-MiniLM-L6-v2.
//!
//! A text is cut into lower-case word pieces, one row is looked up for each, and the rows are
//! averaged ([Model2Vec]). It covers English and technical terms, and neither other scripts nor
//! emoji.
//!
//! *Limits.* Loaded from the program at first use, in about ten milliseconds; takes about 8 MB from
//! then on.
//!
//! [Model2Vec]: https://github.com/MinishLab/model2vec

use std::sync::{LazyLock, OnceLock};

use ai_factory_ports::embedder::{EmbedError, Embedder, ModelIdentity, NextTry};
use model2vec_rs::model::StaticModel;

const TOKENIZER: &[u8] = include_bytes!("../../assets/embedding/tokenizer.json");
const MODEL: &[u8] = include_bytes!("../../assets/embedding/model.safetensors");
const CONFIG: &[u8] = include_bytes!("../../assets/embedding/config.json");

const NAME: &str = "built-in";
const DIMENSIONS: usize = 256;
/// BLAKE3 over the three files. A constant, so that the model's identity is known without reading 5
/// MB; a test computes it.
const CHECKSUM: &str = "3661150b9775af5f8889199f51071276761f8bce6419c1e90db1ddf9daa5dfea";
/// The model reads 512 word pieces; in dense source code a word piece has two and a half bytes.
const TEXT_BYTES_MAX: usize = 1_280;

static IDENTITY: LazyLock<ModelIdentity> = LazyLock::new(|| ModelIdentity {
    name: NAME.to_owned(),
    dimensions: DIMENSIONS,
    checksum: CHECKSUM.to_owned(),
});

/// The built-in model.
#[derive(Default)]
pub struct BuiltIn {
    model: OnceLock<Result<StaticModel, EmbedError>>,
}

impl BuiltIn {
    fn model(&self) -> Result<&StaticModel, EmbedError> {
        let model = self.model.get_or_init(|| {
            StaticModel::from_bytes(TOKENIZER, MODEL, CONFIG, None).map_err(|error| EmbedError {
                model: NAME.to_owned(),
                reason: error.to_string(),
                next: NextTry::Later,
            })
        });
        model.as_ref().map_err(Clone::clone)
    }
}

impl Embedder for BuiltIn {
    fn identity(&self) -> &ModelIdentity {
        &IDENTITY
    }

    fn text_bytes_max(&self) -> usize {
        TEXT_BYTES_MAX
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let model = self.model()?;
        Ok(texts.iter().map(|text| model.encode_single(text)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embed(text: &str) -> Vec<f32> {
        BuiltIn::default().embed(&[text]).unwrap().remove(0)
    }

    fn cosine(a: &str, b: &str) -> f32 {
        embed(a).iter().zip(embed(b)).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn the_checksum_is_that_of_the_files() {
        let mut hasher = blake3::Hasher::new();
        for file in [TOKENIZER, MODEL, CONFIG] {
            hasher.update(file);
        }
        assert_eq!(hasher.finalize().to_hex().as_str(), CHECKSUM);
    }

    #[test]
    fn texts_that_mean_the_same_are_nearer_than_texts_that_do_not() {
        let near = cosine("run the unit tests in parallel", "pytest -n auto");
        let far = cosine("run the unit tests in parallel", "resize the photograph");
        assert!(near > far + 0.1, "{near} {far}");
    }

    #[test]
    fn a_vector_has_length_one_or_the_model_knows_nothing_of_the_text() {
        for text in ["list all files", "E0308", "a", "x.y.z/--flag=1"] {
            let vector = embed(text);
            assert_eq!(vector.len(), DIMENSIONS);
            let length: f32 = vector.iter().map(|x| x * x).sum();
            assert!((length - 1.0).abs() < 1e-4, "{text}: {length}");
        }
        for text in ["", "   ", "备份数据库", "резервная копия", "🎉🚀", "データベース"]
        {
            assert_eq!(embed(text), vec![0.0; DIMENSIONS], "{text}");
        }
    }

    #[test]
    fn a_text_as_long_as_it_reads_is_read_to_the_end() {
        let filler = "let value = compute(x, y); ".repeat(TEXT_BYTES_MAX / 27 - 1);
        let with_end = format!("{filler}kubernetes");
        assert!(with_end.len() <= TEXT_BYTES_MAX);
        assert!(embed(&filler) != embed(&with_end), "its last word was not read");
    }
}
