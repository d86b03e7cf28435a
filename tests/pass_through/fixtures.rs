//! Hand-written requests and answers, with everything in them that parsing and serializing would lose.

use tollgate::Dialect;

/// Requests that no serializer would reproduce. `$S` stands for the value of `stream`.
pub(crate) const REQUESTS: [&str; 8] = [
    r#"{"model":"claude-fable","max_tokens":9,"messages":[{"role":"user","content":"hi"}],"stream":$S}"#,
    " \t\r\n{ \"stream\" :$S ,\r\n\t\"model\":\t\"claude-fable\"\n, \"messages\" : [ ] }\r\n \n",
    r#"{"x":1,"x":2,"x":{"x":1,"x":1},"stream":$S,"model":"claude-fable","messages":[]}"#,
    r#"{"n":1,"seed":123456789012345678901234567890,"temperature":1.0e0,"top_p":0.10,"y":-0.0,"z":1E+400,"model":"claude-fable","stream":$S}"#,
    r#"{"model":"claude-fable","stream":$S,"messages":[{"role":"user","content":"\u4f60\u597D \ud83d\ude00 \ud800 \/ \b\f\u0000 \"model\":\"x\""}]}"#,
    r#"{"messages":[{"role":"user","content":"你好，世界 😀 ﷽ é é"}],"日本":"語","model":"claude-fable","stream":$S}"#,
    r#"{"metadata":{"model":"other","stream":"yes","max_tokens":"many"},"model":"claude-fable","stream":$S,"":{},"a":[[],[[]],{}]}"#,
    r#"{"system":"data: x\n\nevent: y","model":"\u0063laude-fable","stream":$S,"max_tokens":null,"stream_\u006fptions_":1}"#,
];

pub(crate) fn request(n: usize, stream: bool) -> String {
    REQUESTS[n % REQUESTS.len()].replace("$S", if stream { "true" } else { "false" })
}

/// JSON answers with their usage: (input, output).
pub(crate) fn json(dialect: Dialect) -> [(&'static str, (u64, u64)); 3] {
    match dialect {
        Dialect::Anthropic => [
            (
                r#"{"id":"msg_1","type":"message","content":[{"type":"text","text":"hi"}],"usage":{"input_tokens":11,"output_tokens":5}}"#,
                (11, 5),
            ),
            (
                "\n\n  \n{ \"usage\" : { \"output_tokens\" : 7 , \"input_tokens\":3 } ,\r\n\t\"type\":\"message\",\"x\":1,\"x\":2 , \"big\":1e400 }\n\n\n",
                (3, 7),
            ),
            (
                r#"{"type":"message","content":[{"type":"text","text":"\"usage\":{\"input_tokens\":999} \ud800 你好"}],"usage":{"input_tokens":1,"cache_creation":null,"output_tokens":2,"service_tier":"standard"}}"#,
                (1, 2),
            ),
        ],
        _ => [
            (
                r#"{"id":"c","choices":[{"index":0,"message":{"content":"hi"}}],"usage":{"prompt_tokens":11,"completion_tokens":5,"total_tokens":16}}"#,
                (11, 5),
            ),
            (
                "\n\n  \n{ \"usage\" : { \"completion_tokens\" : 7 , \"prompt_tokens\":3 } ,\r\n\t\"choices\":[ ],\"x\":1,\"x\":2 , \"big\":1e400 }\n\n\n",
                (3, 7),
            ),
            (
                r#"{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":999} \ud800 你好"}}],"usage":{"prompt_tokens":1,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":0}}}"#,
                (1, 2),
            ),
        ],
    }
}

/// The blocks of a stream, and which of them is there only for usage.
pub(crate) struct Stream {
    pub(crate) blocks: &'static [&'static str],
    pub(crate) usage_block: Option<usize>,
    pub(crate) usage: (u64, u64),
}

impl Stream {
    pub(crate) fn whole(&self) -> Vec<u8> {
        self.blocks.concat().into_bytes()
    }

    /// What a client gets that has not asked for usage.
    pub(crate) fn without_usage(&self) -> Vec<u8> {
        let kept = self.blocks.iter().enumerate().filter(|(n, _)| Some(*n) != self.usage_block);
        kept.map(|(_, block)| *block).collect::<String>().into_bytes()
    }
}

pub(crate) fn streams(dialect: Dialect) -> &'static [Stream] {
    match dialect {
        Dialect::Anthropic => &ANTHROPIC,
        _ => &OPENAI,
    }
}

const ANTHROPIC: [Stream; 3] = [
    Stream {
        blocks: &[
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":11,\"output_tokens\":1}}}\n\n",
            "event: ping\ndata: {\"type\": \"ping\"}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"你好 \\u4f60\\ud83d\"}}\n\n",
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":5}      }\n\n",
            "event: message_stop\ndata: {\"type\":\"message_stop\"           }\n\n",
        ],
        usage_block: None,
        usage: (11, 5),
    },
    Stream {
        blocks: &[
            "\u{feff}: hello\r\n\r\nid: 7\r\nretry: 3000\r\nevent:message_start\r\ndata:{\"type\":\"message_start\",\r\ndata:\"message\":{\"usage\":{\"input_tokens\":2}}}\r\n\r\n",
            ":\r\n: a comment\r\n\r\n\r\n\r\nunknown: field\r\nnocolon\r\n\r\n",
            "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":3}}\r\n\r\n",
            "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":4}}\r\n\r\n",
            "event: message_stop\r\ndata: {\"type\":\"message_stop\"}\r\n\r\n",
        ],
        usage_block: None,
        usage: (2, 4),
    },
    // Lines end in carriage returns alone, and the last blank line is missing.
    Stream {
        blocks: &[
            "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":6,\"output_tokens\":1}}}\r\r",
            "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":8}}\r\r",
            "data: {\"type\":\"message_stop\"}",
        ],
        usage_block: None,
        usage: (6, 8),
    },
];

const OPENAI: [Stream; 4] = [
    Stream {
        blocks: &[
            "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n",
            "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"你好 \\\"usage\\\":{} \\u4f60\"}}],\"usage\":null}\n\n",
            "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n",
            "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":5,\"total_tokens\":16}}\n\n",
            "data: [DONE]\n\n",
        ],
        usage_block: Some(3),
        usage: (11, 5),
    },
    Stream {
        blocks: &[
            ": OPENROUTER PROCESSING\r\n\r\n",
            "id: 7\r\nretry: 3000\r\nevent: chunk\r\ndata:{\"choices\":[{\"delta\":{\"content\":\"a\"}}],\r\ndata:\"x\":1,\"x\":2}\r\n\r\n",
            ": between\r\n\r\n\r\n",
            "data:{ \"usage\" : {\"prompt_tokens\" : 2,\"completion_tokens\":4 } , \"choices\" : [ \t ] }\r\n\r\n",
            "data:[DONE]\r\n\r\n",
        ],
        usage_block: Some(3),
        usage: (2, 4),
    },
    // The last blank line is missing. Usage is in a chunk with a choice, which the client has to get.
    Stream {
        blocks: &[
            "\u{feff}data: {\"choices\":[],\"prompt_filter_results\":[{\"usage\":null}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":6,\"completion_tokens\":8}}\n\n",
            "data: [DONE]",
        ],
        usage_block: None,
        usage: (6, 8),
    },
    // Lines end in carriage returns alone, and the blank line of the usage chunk is missing.
    Stream {
        blocks: &[
            "data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\r\r",
            "data: [DONE]\r\r",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}",
        ],
        usage_block: Some(2),
        usage: (9, 1),
    },
];
