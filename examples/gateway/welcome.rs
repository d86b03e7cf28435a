use std::net::SocketAddr;

use tollgate::domain::key::VirtualKey;

/// What to paste into which client.
pub(crate) fn print(address: SocketAddr, simulated: bool, has_keys: bool, key: Option<&VirtualKey>) {
    if simulated {
        println!(
            "no provider is configured: a simulated one answers; set ANTHROPIC_API_KEY or OPENAI_API_KEY for a real one"
        );
    }
    if !has_keys {
        println!(
            "no virtual keys yet: whoever reaches this port may call, so it listens on loopback only; --mint name=me,budget=5/day for one"
        );
    }
    // A key that was minted in an earlier run is known to its owner alone.
    let key = match key {
        Some(key) => key.expose(),
        None if has_keys => "YOUR-KEY",
        None => "any",
    };
    println!(
        r#"
curl http://{address}/v1/messages -H 'x-api-key: {key}' -H 'content-type: application/json' \
  -d '{{"model":"claude-haiku-5-5","max_tokens":64,"messages":[{{"role":"user","content":"Hello"}}]}}'

Claude Code        ANTHROPIC_BASE_URL=http://{address} ANTHROPIC_AUTH_TOKEN={key} claude
anthropic (Python) anthropic.Anthropic(base_url="http://{address}", api_key="{key}")
openai (Python)    openai.OpenAI(base_url="http://{address}/v1", api_key="{key}")
"#
    );
}
