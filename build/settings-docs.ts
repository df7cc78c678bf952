/** Writes the tables of settings and rules in docs/ from what these say of themselves: `node build/settings-docs.ts`. */
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { runSettingList } from '../core/config/run-config.ts';
import { type Setting, strategyNameSchema } from '../core/config/setting.ts';
import { policyRuleList } from '../core/config/site-policy.ts';

const isTraining = ({ path }: Setting) => path.startsWith('training.');

/** Documents with a table, and the settings in it; those of `training` and the rules of sites have pages of their own. */
export const settingsDocs: Readonly<Record<string, readonly Setting[]>> = {
  'coordinator.md': runSettingList.filter(
    (setting) => !isTraining(setting) && !['baseSha256', 'baseOrigin'].includes(setting.path),
  ),
  'training.md': runSettingList.filter(isTraining),
  'site-staff.md': policyRuleList,
};

export const settingsDocPath = (name: string): string =>
  fileURLToPath(new URL(`../docs/${name}`, import.meta.url));

const lowered = (text: string) => text.replace(/^./, (letter) => letter.toLowerCase());
const code = (text: string) => `\`${text}\``;

/** As it is written in a file. */
function defaultOf({ path, default: value, none, byDefault }: Setting): string {
  if (byDefault !== undefined) return /^\d+$/.test(byDefault) ? code(byDefault) : lowered(byDefault);
  if (path === 'loraScaling') return code('fixed');
  if (Array.isArray(value) && value.length > 0) return value.map(code).join(', ');
  if (typeof value === 'object' || none !== undefined) return 'none';
  if (value === undefined || value === '') return '–';
  return code(String(value));
}

function row(setting: Setting): string {
  const { path, label, help, choices, for: strategies, when, kind } = setting;
  const name = isTraining(setting) ? path.replace('training.', '') : path;
  const meaning = [`**${label}.** ${help}`];
  if (choices !== undefined && path !== 'strategy')
    meaning.push(`One of ${Object.keys(choices).map(code).join(', ')}.`);
  if (kind === 'table') meaning.push('A table of numbers by name.');
  if (strategies !== undefined) {
    const others = strategyNameSchema.options.filter((other) => !strategies.includes(other));
    meaning.push(
      strategies.length <= others.length
        ? `Only with ${strategies.map(code).join(', ')}.`
        : `Not with ${others.map(code).join(', ')}.`,
    );
  }
  if (when !== undefined) {
    const values = when.slice(1).filter((value) => value !== 'undefined');
    meaning.push(`With ${code(when[0].replace('training.', ''))} ${values.map(code).join(', ')}.`);
  }
  return `| ${code(name)} | ${defaultOf(setting)} | ${meaning.join(' ')} |`;
}

function table(settings: readonly Setting[]): string {
  const groups = Map.groupBy(settings, ({ group }) => group);
  const heading = (group: string) => (groups.size === 1 ? [] : [`| **${group}** | | |`]);
  const rows = [...groups].flatMap(([group, list]) => [...heading(group), ...list.map(row)]);
  return ['| setting | default | what it is |', '| --- | --- | --- |', ...rows].join('\n');
}

/** A document with its table brought up to date. */
export function withSettingsTable(name: string, text: string): string {
  const chosen = table(settingsDocs[name]!);
  const [before, after] = ['<!-- settings -->\n', '<!-- end -->'].map((mark) => text.indexOf(mark));
  return `${text.slice(0, before)}<!-- settings -->\n${chosen}\n${text.slice(after)}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const name of Object.keys(settingsDocs)) {
    const path = settingsDocPath(name);
    await writeFile(path, withSettingsTable(name, await readFile(path, 'utf8')));
    process.stdout.write(`docs/${name}\n`);
  }
}
