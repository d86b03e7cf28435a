//! A simulated provider with a bill, for tests, benches and offline examples.
//!
//! Use it to test your own service behind these layers. [`Simulated`] speaks Anthropic Messages and OpenAI Chat
//! Completions, in JSON and in streams. A [`Script`] gives the text and the usage of an answer, or makes it slow, broken,
//! garbled, compressed, refusing or unreachable. Every token that it produces is on its [`Bill`], against which accounts
//! can be checked.
//!
//! To check a charge, read or drop every answer, since a call is open for as long as its answer is. Then drain the
//! [`Settlements`](crate::call::Settlements) of the stack, and compare
//! [`BudgetStore::standing`](crate::store::budget::BudgetStore::standing) with what
//! [`ModelCard::cost`](crate::domain::catalog::ModelCard::cost) says of a line of the bill. A budget must hold the most
//! that a call may cost, so a call is refused long before its budget is spent.
//!
//! A client can put the script into its prompt, as the text `sim:deltas=3,delay=10` anywhere in the request's body. See
//! [`Script::directive`] for the words.
//!
//! ```
//! use http::Request;
//! use tollgate::Body;
//! use tollgate::testing::Simulated;
//! use tower::ServiceExt;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!
//! let provider = Simulated::new();
//! let request = Request::post("/v1/messages").body(Body::from(r#"{"model":"claude-x","messages":[],"max_tokens":9}"#))?;
//! let answer = provider.clone().oneshot(request).await?;
//! assert_eq!(answer.status(), 200);
//! assert_eq!(provider.bill().lines().len(), 1);
//! # Ok(()) }
//! ```

mod anthropic;
mod bill;
mod body;
mod openai_chat;
mod script;
mod simulated;

pub use crate::store::journal::moments::end_at;

pub use self::bill::{Bill, Line};
pub use self::script::{Fault, Script};
pub use self::simulated::{Received, Simulated};
