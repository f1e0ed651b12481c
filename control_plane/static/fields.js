// A labelled control for each property of a JSON schema.

import { make } from "./elements.js";

const TEXT_TYPES = { date: "date", time: "time", email: "email", uri: "url", password: "password" };

/** `schema` with `$ref`, a lone `allOf` and a nullable `anyOf` put in place. */
export function resolve(schema, root) {
  const { $ref, allOf, anyOf, ...rest } = schema;
  if ($ref) {
    const keys = $ref.split("/").slice(1).map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
    const target = keys.reduce((node, key) => node[key], root);
    return resolve({ ...target, ...rest }, root);
  }
  if (allOf?.length === 1) return resolve({ ...allOf[0], ...rest }, root);
  const kinds = anyOf?.filter((variant) => variant.type !== "null");
  if (kinds?.length === 1) return { ...resolve({ ...kinds[0], ...rest }, root), nullable: kinds.length < anyOf.length };
  return schema;
}

// A control is {nodes, read}; `read` gives undefined where the server's own default is to stand.

function choiceControl(choices, schema, id) {
  const options = schema.nullable ? [null, ...choices] : choices;
  const name = (value) => value === null ? "None" : value === true ? "Yes" : value === false ? "No" : String(value);
  const items = options.map((value, index) => make("option", { value: index, textContent: name(value) }));
  const select = make("select", { id }, ...items);
  select.selectedIndex = Math.max(0, options.indexOf(schema.default));
  return { nodes: [select], read: () => options[select.selectedIndex] };
}

function checkControl(schema, id) {
  const box = make("input", { id, type: "checkbox", checked: schema.default === true });
  return { nodes: [box], read: () => box.checked };
}

function numberControl(schema, id) {
  const whole = schema.type === "integer";
  const low = schema.minimum ?? schema.exclusiveMinimum;
  const high = schema.maximum ?? schema.exclusiveMaximum;
  const bounded = low !== undefined && high !== undefined;
  const fine = bounded && high > low ? Number(`1e${Math.floor(Math.log10((high - low) / 50))}`) : 1;
  const step = schema.multipleOf ?? (whole ? 1 : fine);
  const min = schema.minimum ?? (low === undefined ? undefined : low + step);
  const max = schema.maximum ?? (high === undefined ? undefined : high - step);
  const free = schema.multipleOf ?? (whole ? 1 : "any"); // the box takes what the slider is too coarse for
  const box = make("input", { id, type: "number", min, max, step: free, value: schema.default ?? "" });
  const read = () => {
    if (box.validity.badInput) throw new Error("Enter a number.");
    return box.value === "" ? (schema.nullable ? null : undefined) : box.valueAsNumber;
  };
  if (!bounded) return { nodes: [box], read };
  const ariaLabel = `${schema.title}, slider`;
  const range = make("input", { type: "range", min, max, step, value: schema.default ?? min, ariaLabel });
  range.addEventListener("input", () => { box.value = range.value; });
  box.addEventListener("input", () => { range.value = box.value; });
  return { nodes: [make("div", { className: "pair" }, range, box)], read };
}

function textControl(schema, id) {
  const initial = schema.default ?? "";
  const box = schema.maxLength > 200 || initial.includes("\n")
    ? make("textarea", { id, value: initial })
    : make("input", { id, type: TEXT_TYPES[schema.format] ?? "text", value: initial, autocomplete: "off" });
  if (schema.maxLength) box.maxLength = schema.maxLength;
  return { nodes: [box], read: () => box.value === "" && schema.nullable ? null : box.value };
}

function jsonControl(schema, id) {
  const initial = schema.default === undefined ? "" : JSON.stringify(schema.default, null, 2);
  const box = make("textarea", { id, className: "json", value: initial, spellcheck: false });
  const read = () => {
    if (box.value.trim() === "") return schema.nullable ? null : undefined;
    try {
      return JSON.parse(box.value);
    } catch {
      throw new Error("This is not valid JSON.");
    }
  };
  return { nodes: [box], read };
}

function makeControl(schema, id) {
  const choices = schema.enum ?? (schema.const !== undefined ? [schema.const] : null)
    ?? (schema.type === "boolean" && schema.nullable ? [true, false] : null);
  if (choices) return choiceControl(choices, schema, id);
  const kinds = { boolean: checkControl, integer: numberControl, number: numberControl, string: textControl };
  return (kinds[schema.type] ?? jsonControl)(schema, id);
}

/** One labelled field of the form, with its description and the place of its error. */
export function makeField(name, declared, root, required) {
  const schema = { title: name, ...resolve(declared, root) };
  const id = `input-${name}`;
  const { nodes, read } = makeControl(schema, id);
  const label = make("label", { htmlFor: id, textContent: schema.title });
  const about = { id: `${id}-hint`, className: "quiet", textContent: schema.description };
  const hint = schema.description ? [make("p", about)] : [];
  const error = make("p", { id: `${id}-error`, className: "field-error", role: "alert" });
  const isCheck = nodes[0].type === "checkbox";
  const labelled = isCheck ? [make("div", { className: "check" }, ...nodes, label)] : [label, ...nodes];
  const element = make("div", { className: "field" }, ...labelled, ...hint, error);
  const input = element.querySelector(`#${CSS.escape(id)}`);
  input.setAttribute("aria-describedby", [...hint, error].map((node) => node.id).join(" "));
  // A field whose default the schema does not tell is left to the server until it is touched.
  let silent = !required && declared.default === undefined;
  element.addEventListener("input", () => { silent = false; });
  const setError = (text) => {
    error.textContent = text;
    input.setAttribute("aria-invalid", String(text !== ""));
  };
  return { name, element, setError, read: () => silent ? undefined : read() };
}
