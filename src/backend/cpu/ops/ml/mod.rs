//! Operators of the domain `ai.onnx.ml`.

mod classes;
mod feature;
mod label;
mod linear;
mod post;
mod tree_node;
mod tree_votes;
mod trees;

use super::{Built, Entry, NodeCx, entry_in};

const DOMAIN: &str = "ai.onnx.ml";

const fn ml(op: &'static str, build: fn(&NodeCx) -> Built) -> Entry {
    entry_in(DOMAIN, op, build)
}

/// The operators of this family.
pub const TABLE: &[Entry] = &[
    ml("ArrayFeatureExtractor", feature::array_feature_extractor),
    ml("Binarizer", feature::binarizer),
    ml("LabelEncoder", label::build),
    ml("CategoryMapper", label::category_mapper),
    ml("FeatureVectorizer", feature::feature_vectorizer),
    ml("Imputer", feature::imputer),
    ml("OneHotEncoder", feature::one_hot_encoder),
    ml("Normalizer", linear::normalizer),
    ml("Scaler", linear::scaler),
    ml("LinearRegressor", linear::regressor),
    ml("TreeEnsemble", tree_node::tree_ensemble),
    ml("TreeEnsembleRegressor", tree_votes::regressor),
    ml("TreeEnsembleClassifier", tree_votes::classifier),
    ml("LinearClassifier", linear::classifier),
];
