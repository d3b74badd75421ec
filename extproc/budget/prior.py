"""The weights that the linear estimator starts from: what each feature costs before anything is learned.

They were reasoned out, then fitted by least squares to text found in Python installations (the language reference,
the standard library's source, JSON databases, and names in 150 languages), and rounded. The tokens were counted by
two public vocabularies, Mistral's Tekken (131,072 entries) and its older SentencePiece model (32,000), the first
weighted twice, since vocabularies of 100,000 and more are the rule today. `python -m benchmarks.prior` repeats it.
These figures come from reasoning alone:

- a digit costs 0.7: some tokenizers cut numbers into single digits (Qwen, Mistral: 1), others into groups of up to
  three (Llama 3, GPT: 0.33 to 0.5);
- a character of a rare script costs 2 more than its class: no vocabulary has it, so each byte is a token;
- a message costs 4 and a conversation 4 more: role and delimiters of ChatML and its like;
- tool definitions cost 40 tokens of instructions, and 0.05 a byte, since templates print them with spaces or
  indentation that is not in the compact JSON counted here.
"""

import numpy as np

from extproc.budget.features import NAMES

# tokens for one of each, and the most that may be learned
_PRIOR = {
    "lower": (0.02, 2.0),
    "upper": (0.25, 2.0),
    "digit": (0.7, 2.0),
    "space": (0.06, 2.0),
    "line": (1.3, 2.0),
    "prose_punctuation": (0.15, 2.0),
    "code_punctuation": (0.14, 2.0),
    "latin_lead": (1.0, 2.0),
    "cyrillic_lead": (0.45, 2.0),
    "two_byte_lead": (0.6, 2.0),
    "indic_lead": (0.75, 3.0),
    "symbol_lead": (0.6, 3.0),
    "cjk_lead": (0.85, 3.0),
    "hangul_lead": (0.85, 3.0),
    "four_byte_lead": (3.0, 4.0),
    "hebrew": (0.0, 2.0),
    "arabic": (0.0, 2.0),
    "kana": (0.0, 2.0),
    "word": (0.56, 2.0),
    "word_in_run": (0.4, 2.0),
    "blank_in_run": (0.0, 2.0),
    "line_after_letter": (0.0, 2.0),
    "camel": (0.2, 2.0),
    "snake": (0.0, 2.0),
    "letter_digit": (0.15, 2.0),
    "digit_letter": (0.0, 2.0),
    "digit_in_run": (0.0, 2.0),
    "decimal": (0.0, 2.0),
    "punctuation": (0.5, 2.0),
    "closed": (0.0, 2.0),
    "script": (0.35, 2.0),
    "vietnamese": (0.0, 2.0),
    "rare_script": (2.0, 3.0),
    "repeated": (0.0, 2.0),
    "letter_pairs": (0.6, 2.0),
    "tool_bytes": (0.05, 1.0),
    "messages": (4.0, 64.0),
    "conversation": (4.0, 4096.0),
    "tools": (40.0, 2048.0),
}
INPUTS = (*NAMES, "conversation", "tools")
"""What the weights are for: each feature, whether there are messages at all, whether there are tools."""

CONVERSATION = INPUTS.index("conversation")
TOOLS = INPUTS.index("tools")
WEIGHTS = len(INPUTS)

PRIOR = np.array([_PRIOR[name][0] for name in INPUTS])
"""Tokens for one of each input."""

MOST = np.array([_PRIOR[name][1] for name in INPUTS])
"""Upper bounds of the weights. Those of templates are high: a template may print a system prompt of its own."""

LEAST = np.where(np.isin(INPUTS, ("tool_bytes", "messages", "conversation", "tools")), 0.0, -1.0)
"""Lower bounds of the weights. A byte is counted in its class, and again where it begins a run or belongs to a
script within the class, so one weight may have to take back what others count. The cost of a whole text is
bounded apart from that (`extproc.budget.least_squares.Expected`)."""

DEVIATION = np.maximum(PRIOR, 0.3)
DEVIATION[NAMES.index("tool_bytes")] = 0.1
"""Standard deviation of each weight over tokenizers and texts: as large as the weight, at least 0.3; less for a
byte of tools, which is counted in its class as well."""
