// Gives a page an image as a drop or a paste would.

const fs = require("fs");

module.exports = async function giveImage(page, kind, file) {
  const encoded = fs.readFileSync(file).toString("base64");
  await page.evaluate(([kind, encoded]) => {
    const transfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], `${kind}.jpg`, { type: "image/jpeg" }));
    const event = kind === "drop" ? new DragEvent("drop", { dataTransfer: transfer }) : new ClipboardEvent("paste", { clipboardData: transfer });
    document.dispatchEvent(event);
  }, [kind, encoded]);
};
