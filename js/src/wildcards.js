/**
 * The expression of a pattern in which `*` stands for any text and `?` for one character.
 *
 * What is between two stars is looked for once, as its first place is as good as each later one: a
 * text cannot make the search long.
 */
export function wildcards(pattern) {
  const [first, ...others] = pattern
    .split("*")
    .map((part) => part.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("?", "."));
  const last = others.pop();
  const between = others.map((part, number) => `(?=(?<p${number}>.*?${part}))\\k<p${number}>`);
  return new RegExp(`^${first}${between.join("")}${last === undefined ? "" : `.*${last}`}$`, "s");
}
