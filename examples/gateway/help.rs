/// The text of `--help`. It has to fit on one screen.
pub(crate) const USAGE: &str = "\
gateway [OPTIONS]                      serve
gateway mint KEY … [--database …]      mint keys as --mint does, beside a gateway that runs
gateway revoke NAME … [--database …]   revoke keys, beside a gateway that runs
gateway keys [--database …]            list keys, what they may do, and what they have spent
gateway audit verify PATH [--anchor SEQ:HASH]
gateway audit export DIR
gateway audit content FILE CALL [PATH] 1: something is wrong; 2: nothing is proved, or nothing is there

  --listen ADDR      where to listen: 127.0.0.1:4000
  --database URL     where keys and budgets are kept: sqlite://FILE, or memory: (sqlite://tollgate.db)
  --mint KEY         mint a key and print it, or rotate its secret; what is not named stays as it was:
                     'name=ada,budget=5/day,rpm=60,tpm=100000,parallel=4,models=claude-*,
                     user=ada@example.com,team=search,team-budget=100/month,content=redacted'
                     taken away by budget=none, rpm=none and the like, 'models=*', content=default
  --revoke NAME      revoke a key before anybody is served
  --journal DIR      write every call down before it is sent
  --notify URL       a webhook as Slack has them, for budgets, keys and providers; with --journal
  --content FILE     keep what prompts and answers hold
  --keep HOW         how much of it: nothing (unless set), hashed, redacted, full
  --keep-days N      for so many days
  --help, --version

ANTHROPIC_API_KEY, OPENAI_API_KEY, ANTHROPIC_BASE_URL, OPENAI_BASE_URL: who answers; with none a simulated provider does.
TOLLGATE_PEPPER: what keys open under, else a file beside the database. RUST_LOG: debug, for every call.
";
