"""A Chat Completions server, scripted for an agent. It lets the agent read a file with a command, and repeats the result.

It prints its port, and writes each request as a line into the file that its argument names."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMAND = "cat secret.txt"
SMALL, WINDOW, PROMPT = "small-window", 40000, 24235


def refused(asked):
    """The error of a server whose chat template accepts a system message only at the beginning, like that of Qwen, or of
    vLLM where the answer that is asked for has no room beside the prompt."""
    if asked["model"] == SMALL and (most := asked["max_tokens"]) > WINDOW - PROMPT:
        message = f"'max_tokens' or 'max_completion_tokens' is too large: {most}. This model's maximum context length is"
        message += f" {WINDOW} tokens and your request has {PROMPT} input tokens ({most} > {WINDOW} - {PROMPT})."
        return {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}
    if any(message["role"] == "system" for message in asked["messages"][1:]):
        return {"error": {"message": "System message must be at the beginning.", "type": "BadRequestError", "code": 400}}
    return None


def chunks(asked):
    """Returns the deltas of the answer, and its finish reason."""
    results = [m["content"] for m in asked["messages"] if m["role"] == "tool"]
    tools = {tool["function"]["name"] for tool in asked.get("tools", [])}
    if results:
        heard = results[-1]
        heard = heard if isinstance(heard, str) else "".join(part["text"] for part in heard)
        return [{"content": "It says: "}, {"content": heard}], "stop"
    if asked["model"] == SMALL:
        return [{"content": "It fits."}], "stop"
    if "Bash" in tools:
        arguments = json.dumps({"command": COMMAND, "description": "Read the file"})
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "Bash", "arguments": ""}}
        pieces = [arguments[:9], arguments[9:]]
        more = [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces]
        return [{"role": "assistant", "content": "I look."}, {"tool_calls": [call]}, *more], "tool_calls"
    return [{"content": "ok"}], "stop"


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with open(sys.argv[1], "a") as log:
            log.write(json.dumps({"headers": list(self.headers.keys()), "body": asked}) + "\n")
        if refusal := refused(asked):
            return self.answer(400, "application/json", json.dumps(refusal))
        deltas, reason = chunks(asked)
        usage = {"prompt_tokens": 1000, "completion_tokens": 9, "total_tokens": 1009}
        if asked.get("stream"):
            kind, events = "text/event-stream", [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
            events += [{"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}, {"choices": [], "usage": usage}]
            data = [json.dumps({"id": "c1", "model": asked["model"], **event}) for event in events] + ["[DONE]"]
            body = "".join(f"data: {event}\n\n" for event in data)
        else:
            message = {"role": "assistant", "content": "".join(delta.get("content") or "" for delta in deltas)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            kind, body = "application/json", json.dumps({"id": "c1", "choices": [choice], "usage": usage})
        self.answer(200, kind, body)

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
print(server.server_port, flush=True)
server.serve_forever()
