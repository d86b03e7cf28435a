/// The text of `--help`. It has to fit on one screen.
pub(crate) const USAGE: &str = "\
gateway [OPTIONS]                      serve
gateway mint KEY … [--database …]      make keys as --mint does, while a gateway is running
gateway change KEY … [--database …]    change what keys may do as --mint does, but not their secrets
gateway revoke NAME … [--database …]   revoke keys while a gateway is running
gateway keys [--database …]            list the keys, what they may do, and what they have spent
gateway audit verify PATH [--anchor SEQ:HASH]
gateway audit export DIR
gateway audit content FILE CALL [PATH] exit codes: 1: something is wrong; 2: nothing is proved or nothing was found

  --listen ADDR      the address to listen on (default: 127.0.0.1:4000)
  --database URL     where keys and budgets are kept: sqlite://FILE or memory: (default: sqlite://tollgate.db)
  --mint KEY         make a key and print it; if the key exists, give it a new secret and change only what is named:
                     'name=ada,budget=5/day,rpm=60,tpm=100000,parallel=4,models=claude-*,
                     models=gpt-*,user=ada@example.com,team=search,team-budget=100/month,content=redacted'
                     team-budget covers only the keys that name it: give it to every member
                     remove a setting by budget=none, rpm=none and the like, 'models=*', content=default
  --revoke NAME      revoke a key before serving
  --journal DIR      record every call on disk before it is sent
  --notify URL       Slack webhook for budget, key and provider events; needs --journal
  --content FILE     keep the content of prompts and answers in this file
  --keep HOW         how much content to keep: nothing (default), hashed, redacted, full
  --keep-days N      how many days to keep content (default: for ever)
  --help, --version

ANTHROPIC_API_KEY, OPENAI_API_KEY, ANTHROPIC_BASE_URL, OPENAI_BASE_URL: the providers to use; default: a simulated one.
TOLLGATE_PEPPER: the pepper for key hashes; default: a file beside the database. RUST_LOG=debug: log every call.
";
