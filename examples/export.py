"""Write a model in Hugging Face's layout, so that transformers can load it.

python examples/export.py runs/... my_model            # a chat model with its template, too
"""

import argparse
import sys

from tinygrad_lm.posttrain.chat.export_chat import chat_files
from tinygrad_lm.posttrain.chat.load import find_chat
from tinygrad_lm.pretrained.export import export
from tinygrad_lm.pretrained.load import load_pretrained
from tinygrad_lm.programs import program


@program
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="RUN", help="the folder of a run or of a model, or a name such as gpt2")
    parser.add_argument("folder", metavar="FOLDER", help="the folder to create")
    args = parser.parse_args(arguments)
    model, tokenizer = load_pretrained(args.model)
    chat = find_chat(args.model, tokenizer)
    export(model, tokenizer, args.folder, chat and chat_files(chat), source=args.model)
    print(f"wrote {args.folder}")


if __name__ == "__main__":
    sys.exit(main())
