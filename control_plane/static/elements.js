// The page's elements: finding them and making them.

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value !== undefined) element[name] = value;
  }
  element.append(...children);
  return element;
}
