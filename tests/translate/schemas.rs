//! Schemas that Claude can enforce, and what happens to those that it cannot.

use serde_json::{Value, json};
use tollgate::Dialect;
use tollgate::domain::rejection::RejectionKind;

use crate::requests::{refused, user};

fn asking_for(schema: Value) -> Value {
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": schema}});
    json!({"model": "m", "messages": [user("q")], "response_format": format})
}

#[test]
fn a_schema_that_leads_back_to_itself_is_one_for_another_upstream() {
    let tree = json!({"type": "object", "properties": {"next": {"$ref": "#/$defs/Tree"}},
        "$defs": {"Tree": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Tree"}}}}});
    let path = || "response_format.json_schema.schema".to_owned();
    assert_eq!(refused(asking_for(tree), Dialect::OpenAiChat), (RejectionKind::Unsupported, path()));
    assert_eq!(refused(asking_for(json!(7)), Dialect::OpenAiChat), (RejectionKind::InvalidRequest, path()));
}
