#!/bin/bash
# test_config_errors.sh: wrong settings and wrong files. Each ends with the right exit status, and
# one line on stderr that names the place and what to do.
# asan: yes
. "$(dirname "$0")/lib.sh"
PATH=$bin:$PATH

# --- the command line --------------------------------------------------------------------------------
expect 64 'on which data?' -- rhetor-pretrain
expect 78 'command line: data.train is not set' -- rhetor-pretrain run.seed=2
expect 64 'no command "nosuch"' -- rhetor nosuch
mkdir closed && : >closed/rhetor-nosuch # may not be run: as a folder of PATH that may not be searched
PATH=$PATH:$PWD/closed expect 64 'no command "nosuch"' -- rhetor nosuch
expect 64 'unrecognized option' -- rhetor-pretrain c.yaml --nosuch
expect 64 'no command "nosuch"' -- rhetor-data nosuch
expect 64 '--ranks is "x"; expected a whole number from 1 to' -- rhetor-pretrain c.yaml --dry-run --ranks x
expect 64 "--ranks belongs to --dry-run; ranks are started by mpirun -n 2" -- rhetor-pretrain c.yaml --ranks 2
expect 64 '--seconds is "x"; expected a number from 0 to' -- rhetor-bench --seconds x
expect 78 'rhetor-pretrain: nosuch.yaml: ' 'No such file' 'check the path' -- rhetor-pretrain nosuch.yaml

# --- the config file ---------------------------------------------------------------------------------
printf 'run: {dir: run}\nmodel:\n  layers: 2\n' >c.yaml
expect 78 'c.yaml: data.train is not set' -- rhetor-pretrain c.yaml
printf 'model:\n  layerz: 2\n' >typo.yaml
expect 78 'typo.yaml:2:11: unknown setting model.layerz; did you mean model.layers?' -- rhetor-pretrain typo.yaml
printf 'model:\n  heads: 4\n  layers: 0\n' >range.yaml
expect 78 'range.yaml:3:11: model.layers is 0, expected an integer from 1' -- rhetor-pretrain range.yaml
printf 'model:\n  layers: [\n' >broken.yaml
expect 78 'broken.yaml:' ': malformed YAML' -- rhetor-pretrain broken.yaml
printf 'run:\n  dir: a\nrun:\n  dir: b\n' >twice.yaml
expect 78 'twice.yaml:4:' ': run.dir is set again, first at twice.yaml:2:' -- rhetor-pretrain twice.yaml
expect 78 'c.yaml:3:' ': model.layers is a setting of pretrain, not of sft' -- rhetor-sft c.yaml

# --- settings on the command line --------------------------------------------------------------------
expect 78 'command line: model.layers is many, expected an integer' -- rhetor-pretrain c.yaml model.layers=many
expect 78 'command line: optim.lr is -1, expected' -- rhetor-pretrain c.yaml optim.lr=-1
expect 78 'command line: optim.schedule is cos, expected one of constant, linear, cosine' -- \
    rhetor-pretrain c.yaml optim.schedule=cos
expect 78 'ppo.clip is a setting of ppo, grpo, not of pretrain' -- rhetor-pretrain c.yaml ppo.clip=0.1

# --- files -------------------------------------------------------------------------------------------
expect 74 'nosuch.h5: ' 'No such file' 'check the path' -- \
    rhetor-pretrain c.yaml data.train=nosuch.h5 from.tokenizer=nosuch.json
expect 74 'nosuch: no such file' -- rhetor-ckpt show nosuch
printf '{"text":"one two three"}\n' >good.jsonl
printf '{"text":"one two three"}\n{"text": broken}\n' >bad.jsonl
printf '{"text":"one"}\n{"text":"t\xffwo"}\n' >latin.jsonl
expect 65 'bad.jsonl:2:' ': malformed JSON' -- rhetor-data tokenizer --vocab 258 --out t.json bad.jsonl
expect 65 'latin.jsonl:2:' ': invalid UTF-8' -- rhetor-data tokenizer --vocab 258 --out t.json latin.jsonl
expect 64 '--vocab is "3"; expected' -- rhetor-data tokenizer --vocab 3 --out t.json good.jsonl
[ ! -e t.json ] || fail "t.json was written after an error"
printf '{"version": "1.0"' >cut.json
expect 65 'cut.json:' ': incomplete JSON' -- rhetor-data encode --tokenizer cut.json --out x.h5 good.jsonl
must rhetor-data tokenizer --vocab 258 --out t.json good.jsonl
expect 65 'bad.jsonl:2:' ': malformed JSON' -- rhetor-data encode --tokenizer t.json --out x.h5 bad.jsonl
[ ! -e x.h5 ] || fail "x.h5 was written after an error"
must rhetor-data encode --tokenizer t.json --out x.h5 good.jsonl
printf 'not a corpus' >text.h5
expect 65 'text.h5 is no corpus; if it is text, make one of it: rhetor-data encode' -- rhetor-pretrain c.yaml data.train=text.h5 from.tokenizer=t.json
must rhetor-data tokenizer --vocab 257 --out other.json good.jsonl
expect 78 'other.json is not the tokenizer that x.h5 was encoded with' -- \
    rhetor-pretrain c.yaml data.train=x.h5 from.tokenizer=other.json

# --- nothing of this is an error ---------------------------------------------------------------------
expect 0 '  layers: 2' -- rhetor-pretrain --print-config c.yaml
