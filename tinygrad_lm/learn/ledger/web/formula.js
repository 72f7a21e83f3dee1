// Formulas as the rules' docstrings write them, set in type: variables slanted, raised and lowered signs, roots.

const RAISED = { ᵀ: "T", "²": "2", "³": "3", "⁻": "−", "¹": "1", ᵇ: "b", ⁿ: "n" };
const LOWERED = { "₀": "0", "₁": "1", "₂": "2", ᵢ: "i", ⱼ: "j", ₖ: "k" };
const VARIABLES = new Set(["logits", "ids", "target", "dlogits", "dP", "dZ"]);

// One formula, perhaps of several equations: an element with a line for each.
function formula(text) {
  const equations = text.split(/,\s+(?=d?[\p{L}\p{M}ᵢ]+(?:\[\w+\])?\s*(?:\+=|=)\s)/u);
  return h(
    "span",
    { class: "formula" },
    equations.map((one) => h("span", { class: "equation" }, typeset(one.trim()))),
  );
}

function typeset(text) {
  const out = [];
  const tokens = text.match(/'s|√\s*|[\p{L}\p{M}]+|[\d.]+|\s+|./gu) ?? [];
  const words = tokens.flatMap(splitScripts);
  for (let i = 0; i < words.length; i++) {
    const token = words[i];
    if (token in RAISED || token in LOWERED) {
      let run = "";
      const table = token in RAISED ? RAISED : LOWERED;
      for (; words[i] in table; i++) run += table[words[i]];
      i--;
      out.push(h(table === RAISED ? "sup" : "sub", {}, run === "T" || /^[−\d]/.test(run) ? run : letter(run)));
    } else if (token.startsWith("√")) {
      const end = words[i + 1] === "(" ? closing(words, i + 1) : i + 1;
      const inner = words[i + 1] === "(" ? words.slice(i + 2, end) : [words[end]];
      out.push("√", h("span", { class: "root" }, typeset(inner.join(""))));
      i = end;
    } else {
      out.push(isVariable(token) && !isArticle(words, i) ? letter(token) : token);
    }
  }
  return out;
}

// Raised and lowered letters count as letters; here they part from what they stand on.
function splitScripts(token) {
  return token.match(/[ᵀ²³⁻¹ᵇⁿ₀₁₂ᵢⱼₖ]|[^ᵀ²³⁻¹ᵇⁿ₀₁₂ᵢⱼₖ]+/gu) ?? [];
}

function closing(words, i) {
  let depth = 0;
  for (; i < words.length; i++) {
    depth += words[i] === "(" ? 1 : words[i] === ")" ? -1 : 0;
    if (depth === 0) return i;
  }
  return words.length;
}

// The "a" of "in a row", which stands between words.
const isWord = (token = "") => /^\p{L}{2,}$/u.test(token) && !isVariable(token);
const isArticle = (words, i) => words[i] === "a" && isWord(words[i - 2]) && isWord(words[i + 2]);

const bare = (token) => token.normalize("NFD").replace(/\p{M}/gu, "");
const isVariable = (token) => VARIABLES.has(token) || (/^d?\p{L}$/u.test(bare(token)) && !"ΣΦ∂".includes(token));
const letter = (text) => h("var", {}, text);
