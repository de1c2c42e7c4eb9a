// Shows openapi.json: what each address takes and gives.

const made = (tag, text = "", name = "") => Object.assign(document.createElement(tag), {textContent: text, className: name});

function table(rows) {
  const box = made("div", "", "scroll"), body = made("table");
  for (const row of rows) {
    const line = made("tr");
    line.append(...row.map((text) => made("td", text)));
    body.append(line);
  }
  box.append(body);
  return box;
}

function kind(schema, about) {
  const found = schema.$ref ? schema.$ref.split("/").at(-1) : null;
  if (found) return found;
  if (schema.type === "array" && schema.items) return `list of ${kind(schema.items, about)}`;
  if (schema.format === "binary") return "file";
  return schema.enum?.join(" or ") ?? schema.const ?? schema.type ?? "";
}

const rowsOf = (schema, about) => Object.entries(schema.properties ?? {}).map(([name, each]) =>
  [name, kind(each, about), `${each.description ?? ""}${schema.required?.includes(name) ? "" : " (optional)"}`]);

function curl(path, type, body) {
  if (type === "application/json") return `curl --json @body.json ${location.origin + path}`;
  const fields = Object.entries(body?.properties ?? {}).filter(([name]) => body.required?.includes(name));
  const parts = fields.map(([name, each]) => `-F ${name}=${each.format === "binary" ? "@photo.jpg" : "NAME"}`);
  return ["curl", ...parts, location.origin + path].join(" ");
}

function operation(path, method, about) {
  const {description, requestBody, responses} = about.paths[path][method];
  const section = made("section"), title = made("h2");
  title.append(made("span", method.toUpperCase(), "method"), path);
  section.append(title, made("p", description));
  const [type, {schema: body}] = Object.entries(requestBody?.content ?? {})[0] ?? ["", {}];
  section.append(made("pre", curl(path, type, body)));
  if (body) section.append(made("h3", `Fields of ${type}`), table(rowsOf(body, about)));
  const answer = responses[200].content["application/json"].schema;
  section.append(made("h3", `Answer: ${kind(answer, about)}`));
  const others = Object.entries(responses).filter(([status]) => status !== "200");
  if (others.length) section.append(table(others.map(([status, each]) => [status, each.description])));
  return section;
}

const about = await (await fetch("/openapi.json")).json();
document.getElementById("about").textContent = about.info.description;
const sections = Object.keys(about.paths).flatMap((path) =>
  Object.keys(about.paths[path]).map((method) => operation(path, method, about)));
for (const [name, schema] of Object.entries(about.components.schemas)) {
  const section = made("section");
  section.append(made("h2", name), made("p", schema.description ?? ""), table(rowsOf(schema, about)));
  sections.push(section);
}
document.getElementById("operations").replaceChildren(...sections);
