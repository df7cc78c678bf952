/** `anneal users …`: who may use this installation, and what waits for a second person. */
import type { Command } from 'commander';
import type { Account, HandedOut, PeopleSettings, ProposalRow } from '../../api/contract.ts';
import { allRoles, type Role, roleWords } from '../../config/roles.ts';
import { AppError } from '../../shared/errors.ts';
import { readList, readWholeNumber } from '../arguments.ts';
import { formatTable } from '../format.ts';
import { printJson, printLine } from '../output.ts';
import { createSecretReader } from '../secrets.ts';
import { actingAs, withAgent } from '../with-agent.ts';

interface Common {
  data?: string;
  json: boolean;
}

function readRoles(text: string): Role[] {
  return readList(text).map((word) => {
    const role = allRoles.find((known) => known === word);
    if (role !== undefined) return role;
    throw new AppError('CONFIG_INVALID', `"${word}" is no role.`, {
      action: `Roles are ${allRoles.join(', ')}.`,
    });
  });
}

const stateOf = ({ isActive, awaitsPassword }: Account) =>
  !isActive ? 'deactivated' : awaitsPassword ? 'has a one-time password' : 'active';

function printUsers(users: readonly Account[]): void {
  if (users.length === 0) {
    printLine('No users yet: everybody with the access code or this computer’s account is let in.');
    return;
  }
  printLine(
    formatTable(
      ['name', 'person', 'roles', 'state'],
      users.map((user) => [user.name, user.displayName, user.roles.join(', '), stateOf(user)]),
    ),
  );
}

function printSettings({ everybodySignsIn, lockAfterMinutes }: PeopleSettings): void {
  printLine(
    everybodySignsIn
      ? 'Everybody signs in by name, in the desktop app, too.'
      : 'The desktop app belongs to the operating system’s user; browsers sign in by name once there are users.',
  );
  printLine(`Sessions lock after ${lockAfterMinutes} minutes.`);
}

function printHandedOut({ account, oneTimePassword, expiresAt }: HandedOut): void {
  printLine(`User "${account.name}" (${account.roles.join(', ')}).`);
  printLine(`One-time password, shown this once: ${oneTimePassword}`);
  printLine(`It is good until ${expiresAt.slice(0, 10)}, for choosing another one at the first sign-in.`);
}

function printProposals(proposals: readonly ProposalRow[]): void {
  if (proposals.length === 0) {
    printLine('Nothing waits for a second person.');
    return;
  }
  printLine(
    formatTable(
      ['number', 'what', 'proposed by', 'ends'],
      proposals.map(({ id, title, proposedBy, expiresAt }) => [
        ...[String(id), title, proposedBy, expiresAt.slice(0, 10)],
      ]),
      [0],
    ),
  );
}

const withCommon = (command: Command) =>
  command.option('--data <folder>', 'data folder').option('--json', 'print JSON', false);

export function addUserCommands(program: Command): void {
  const users = program.command('users').description('who may use this installation, and in which roles');
  addLists(users);
  addHandingOut(users);
  addChanges(users);
}

function addLists(users: Command): void {
  withCommon(
    users.command('list').description('show users, their roles and the rules about signing in'),
  ).action(async (options: Common) => {
    const list = await withAgent(options.data, (client) => client.people.list.query());
    if (options.json) return printJson(list);
    printUsers(list.users);
    printSettings(list.settings);
  });
  withCommon(users.command('proposals').description('show what waits for a second person')).action(
    async (options: Common) => {
      const proposals = await withAgent(options.data, (client) => client.people.proposals.query());
      if (options.json) printJson(proposals);
      else printProposals(proposals);
    },
  );
  withCommon(
    users
      .command('end-proposal')
      .description('take back or refuse what waits for a second person')
      .argument('<number>', 'as "anneal users proposals" shows it', readWholeNumber),
  ).action(async (id: number, options: Common) => {
    const proposals = await withAgent(options.data, (client) => client.people.endProposal.mutate({ id }));
    if (options.json) printJson(proposals);
    else printLine('It will not be done.');
  });
}

/** Commands that print a one-time password. */
function addHandingOut(users: Command): void {
  const say = (handedOut: HandedOut, { json }: Common) =>
    json ? printJson(handedOut) : printHandedOut(handedOut);
  withCommon(
    users
      .command('add')
      .description('add a user, with a one-time password')
      .argument('<name>', 'account name: small letters, digits, dots; stands in the audit trail for good')
      .requiredOption('--roles <names>', `separated by commas: ${allRoles.join(', ')}`)
      .option('--person <name>', 'how the person is called on the screens; the account name when absent'),
  )
    .addHelpText(
      'after',
      `\nRoles:\n${allRoles.map((role) => `  ${role.padEnd(14)} ${roleWords[role].may}`).join('\n')}`,
    )
    .action(async (name: string, options: Common & { roles: string; person?: string }) => {
      const input = { name, displayName: options.person ?? name, roles: readRoles(options.roles) };
      say(await withAgent(options.data, (client) => client.people.add.mutate(input)), options);
    });
  for (const [command, what] of [
    ['reset', 'hand out a new one-time password, for a user who forgot theirs'],
    ['reactivate', 'let the same person in again, with a one-time password'],
  ] as const)
    withCommon(users.command(command).description(what).argument('<name>', 'account name')).action(
      async (name: string, options: Common) => {
        const handedOut = await withAgent(options.data, ({ people }) =>
          (command === 'reset' ? people.resetPassword : people.reactivate).mutate({ name }),
        );
        say(handedOut, options);
      },
    );
}

function addChanges(users: Command): void {
  withCommon(
    users
      .command('roles')
      .description('change what a user may do')
      .argument('<name>', 'account name')
      .argument('<roles>', `separated by commas: ${allRoles.join(', ')}`),
  ).action(async (name: string, roles: string, options: Common) => {
    const input = { name, roles: readRoles(roles) };
    const account = await withAgent(options.data, (client) => client.people.setRoles.mutate(input));
    if (options.json) printJson(account);
    else printUsers([account]);
  });
  withCommon(
    users
      .command('deactivate')
      .description('sign a user out for good; the audit trail keeps the name')
      .argument('<name>'),
  ).action(async (name: string, options: Common) => {
    const account = await withAgent(options.data, (client) => client.people.deactivate.mutate({ name }));
    if (options.json) printJson(account);
    else printUsers([account]);
  });
  withCommon(
    users
      .command('settings')
      .description('how people sign in')
      .option('--everybody-signs-in <on|off>', 'also in the desktop app')
      .option('--lock-after <minutes>', 'minutes without a person, 1 to 480', readWholeNumber),
  ).action(async (options: Common & { everybodySignsIn?: string; lockAfter?: number }) => {
    const settings = await withAgent(options.data, async ({ people }) => {
      const { settings: before } = await people.list.query();
      if (options.everybodySignsIn === undefined && options.lockAfter === undefined) return before;
      return people.changeSettings.mutate({
        everybodySignsIn: readSwitch(options.everybodySignsIn) ?? before.everybodySignsIn,
        lockAfterMinutes: options.lockAfter ?? before.lockAfterMinutes,
      });
    });
    if (options.json) printJson(settings);
    else printSettings(settings);
  });
  withCommon(
    users.command('password').description('change your own password: anneal users password --as NAME'),
  ).action(async (options: Common) => {
    const name = actingAs();
    if (name === null)
      throw new AppError('CONFIG_INVALID', 'It is not clear whose password to change.', {
        action: 'Add --as with your account name.',
      });
    using secrets = createSecretReader();
    const current = await secrets.read('Present or one-time password');
    const next = await secrets.read('New password, at least 12 characters');
    if ((await secrets.read('The new password again')) !== next)
      throw new AppError('CONFIG_INVALID', 'The two new passwords are not the same.', {
        action: 'Try again.',
      });
    await withAgent(
      options.data,
      async ({ people }) => {
        await people.signIn.mutate({ name, password: current });
        await people.changePassword.mutate({ current, next });
        await people.signOut.mutate();
      },
      { signIn: false },
    );
    if (options.json) printJson({ changed: name });
    else printLine('Changed. Other sessions of this account have ended.');
  });
}

function readSwitch(text: string | undefined): boolean | undefined {
  if (text === undefined) return undefined;
  if (text === 'on' || text === 'off') return text === 'on';
  throw new AppError('CONFIG_INVALID', '--everybody-signs-in is "on" or "off".', {
    action: 'Write one of the two.',
  });
}
