// What axe finds wrong with the accessibility of a page: rules, each with the elements; null if axe-core is not installed.

let source = null;
try {
  ({ source } = require("axe-core"));
} catch {
  // the other checks go on
}

module.exports = async function violations(page) {
  if (!source) return null;
  await page.evaluate(source);
  const found = await page.evaluate(() => self.axe.run());
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(", ")}`);
};
