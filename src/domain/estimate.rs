//! STUB
#![allow(missing_docs, reason = "stub")]
use super::catalog::ModelCard;
use super::money::Money;
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    pub text: u64,
}
#[derive(Debug)]
pub struct Unbounded {
    pub field: &'static str,
}
impl std::fmt::Display for Unbounded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.field)
    }
}
pub fn proven_input(inputs: &Inputs, card: &ModelCard) -> Result<u64, Unbounded> {
    Ok(inputs.text.min(card.context_window))
}
pub fn ceiling(_inputs: &Inputs, card: &ModelCard, input: u64, output: u64) -> Result<Money, Unbounded> {
    let usage = super::usage::Usage { input, output, ..Default::default() };
    card.cost(&usage, super::catalog::Terms::default()).ok_or(Unbounded { field: "model" })
}
pub fn likely_input(inputs: &Inputs, _model: &str) -> u64 {
    inputs.text / 3
}
