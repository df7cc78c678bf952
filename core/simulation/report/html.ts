/** The little HTML that the report needs. */

/** Text between tags and in attributes. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** First column left, the others right; wide tables scroll by themselves. */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  caption: string,
): string {
  const heads = head.map((cell) => `<th scope="col">${escapeHtml(cell)}</th>`).join('');
  const body = rows.map(
    ([first = '', ...others]) =>
      `<tr><th scope="row">${escapeHtml(first)}</th>${others.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}</tr>`,
  );
  return `<div class="wide" role="region" aria-label="${escapeHtml(caption)}" tabindex="0"><table><caption>${escapeHtml(caption)}</caption><thead><tr>${heads}</tr></thead><tbody>${body.join('')}</tbody></table></div>`;
}

export const style = `
  :root { color-scheme: light; }
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px; padding: 0 1rem; color: #1b2226; background: #fff; }
  h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; } h3 { font-size: 1.05rem; }
  .wide { overflow-x: auto; margin: 1rem 0; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.87rem; width: 100%; }
  caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  th, td { text-align: right; padding: 5px 7px; border-bottom: 1px solid #dde3e6; white-space: nowrap; }
  thead th { font-weight: 600; vertical-align: bottom; white-space: normal; border-bottom: 2px solid #93a1a8; }
  th:first-child { text-align: left; } tbody th { font-weight: 600; }
  .warning { color: #8a3b00; }
  .note { color: #46525a; font-size: 0.9rem; max-width: 75ch; }
  .plots { display: flex; flex-wrap: wrap; gap: 1rem; }
  figure { margin: 0; max-width: 100%; } figcaption { font-weight: 600; margin-bottom: 0.25rem; }
  figure svg { max-width: 100%; height: auto; border: 1px solid #dde3e6; border-radius: 8px; }
  .plots + figure { margin-top: 1rem; }
  .legend { display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; list-style: none; padding: 0; margin: 1.5rem 0 0.75rem; }
  .legend li { display: flex; align-items: center; gap: 0.4rem; } .legend svg { display: block; }
  details { margin: 0.4rem 0; } summary { cursor: pointer; }
  pre { user-select: all; overflow-x: auto; background: #f4f7f8; padding: 0.75rem; border-radius: 6px; font-size: 0.8rem; }
  dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1.5rem; } dt { color: #46525a; } dd { margin: 0; overflow-wrap: anywhere; }
  @media print {
    body { margin: 0; max-width: none; font-size: 10pt; } nav, details:not([open]) { display: none; }
    figure, tr { break-inside: avoid; } h2 { break-after: avoid; } .plots figure { width: 48%; }
    section + section { break-before: page; }
  }`;
