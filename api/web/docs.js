// The page at `/docs`: reads /openapi.json and shows it. No part of it is ever used as markup.
"use strict";

function element(tag, className, ...content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

// What a schema says, in a few words; references become links to the list of schemas.
function words(schema) {
  if (!schema) return ["any"];
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    const link = element("a", "", name);
    link.href = `#schema-${name}`;
    return [link];
  }
  if (schema.enum) return [schema.enum.map((one) => JSON.stringify(one)).join(" | ")];
  const parts = schema.anyOf ?? schema.oneOf;
  if (parts) return parts.flatMap((one, at) => (at ? [" | ", ...words(one)] : words(one)));
  if (schema.type === "array") return ["list of ", ...words(schema.items ?? schema.prefixItems?.[0])];
  if (schema.type === "object" && schema.additionalProperties) return ["map of ", ...words(schema.additionalProperties)];
  const limits = [];
  const low = schema.minimum ?? schema.minLength, high = schema.maximum ?? schema.maxLength;
  if (low !== undefined || high !== undefined) limits.push(`${low ?? ""}…${high ?? ""}`);
  if (schema.pattern) limits.push(schema.pattern);
  return [[schema.type ?? "any", ...limits].join(" ")];
}

function properties(schema) {
  const list = element("ul", "");
  for (const [name, one] of Object.entries(schema.properties ?? {})) {
    const line = element("li", "", element("code", "", name), (schema.required ?? []).includes(name) ? " (required) " : " ",
      element("span", "mono note", ...words(one)));
    if (one.description) line.append(element("span", "sub", one.description));
    list.append(line);
  }
  return list;
}

function operation(method, path, one) {
  const made = element("details", "", element("summary", "", element("span", `verb ${method}`, method.toUpperCase()),
    element("code", "", path), element("span", "note", one.summary ?? "")));
  made.dataset.search = `${method} ${path} ${one.summary ?? ""}`.toLowerCase();
  const body = element("div", "body");
  if (one.parameters?.length) {
    const list = element("ul", "");
    for (const parameter of one.parameters)
      list.append(element("li", "", element("code", "", parameter.name), ` in ${parameter.in}${parameter.required ? ", required" : ""} `,
        parameter.description ? element("span", "sub", parameter.description) : ""));
    body.append(element("b", "", "Parameters"), list);
  }
  for (const [type, content] of Object.entries(one.requestBody?.content ?? {})) {
    body.append(element("p", "note", "Body, ", element("code", "", type), ": ", ...words(content.schema)));
    if (content.schema?.properties) body.append(properties(content.schema));
  }
  for (const [code, answer] of Object.entries(one.responses ?? {}))
    for (const [type, content] of Object.entries(answer.content ?? { "": {} }))
      body.append(element("p", "note", element("b", "", code), ` ${answer.description} `, element("code", "", type), " ",
        ...(content.schema ? words(content.schema) : [])));
  made.append(body);
  return made;
}

function show(description) {
  const groups = new Map();
  for (const [path, operations] of Object.entries(description.paths))
    for (const [method, one] of Object.entries(operations)) {
      const tag = one.tags?.[0] ?? "Other";
      if (!groups.has(tag)) groups.set(tag, element("section", "", element("h2", "", tag)));
      groups.get(tag).append(operation(method, path, one));
    }
  const schemas = element("section", "", element("h2", "", "Schemas"));
  for (const [name, schema] of Object.entries(description.components?.schemas ?? {})) {
    const made = element("details", "", element("summary", "", element("code", "", name),
      element("span", "note", schema.description ?? "")), element("div", "body", properties(schema)));
    made.id = `schema-${name}`;
    made.dataset.search = name.toLowerCase();
    schemas.append(made);
  }
  const intro = element("section", "", element("p", "note", description.info.description ?? "", " Version ", description.info.version,
    ". Errors are problem details (RFC 9457)."));
  document.getElementById("content").replaceChildren(intro, ...groups.values(), schemas);
}

document.getElementById("filter").addEventListener("input", (event) => {
  const text = event.target.value.trim().toLowerCase();
  for (const one of document.querySelectorAll("details")) one.hidden = !one.dataset.search.includes(text);
});
addEventListener("hashchange", () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.tagName === "DETAILS") target.open = true;
});
fetch("/openapi.json").then((answer) => answer.json()).then(show).catch(() => {
  document.getElementById("content").replaceChildren(element("p", "empty", "The description cannot be loaded; is the server running?"));
});
