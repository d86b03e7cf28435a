use std::net::SocketAddr;

/// What to paste into which client.
pub(crate) fn print(address: SocketAddr, simulated: bool) {
    if simulated {
        println!(
            "no provider is configured: a simulated one answers; set ANTHROPIC_API_KEY or OPENAI_API_KEY for a real one"
        );
    }
    println!(
        "no virtual keys yet: whoever reaches this port may call, so it listens on loopback only; clients may send any key"
    );
    println!(
        r#"
curl http://{address}/v1/messages -H 'content-type: application/json' \
  -d '{{"model":"claude-haiku-5-5","max_tokens":64,"messages":[{{"role":"user","content":"Hello"}}]}}'

Claude Code        ANTHROPIC_BASE_URL=http://{address} ANTHROPIC_AUTH_TOKEN=any claude
anthropic (Python) anthropic.Anthropic(base_url="http://{address}", api_key="any")
openai (Python)    openai.OpenAI(base_url="http://{address}/v1", api_key="any")
"#
    );
}
