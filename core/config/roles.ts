/** What people at an installation may do. One person may have several roles; none includes another. */
import { z } from 'zod';

/** In the order of the screens. */
export const roleWords = {
  viewer: { label: 'Viewer', may: 'Look at everything, change nothing.' },
  'data-manager': {
    label: 'Data manager',
    may: 'Import images, record and withdraw consents, correct labels, answer subjects; pause training.',
  },
  approver: {
    label: 'Approver',
    may: 'Approve or decline runs, change the policy; start and stop runs at a coordinator.',
  },
  administrator: {
    label: 'Administrator',
    may: 'Users and their roles, joining a federation; invite and remove sites at a coordinator.',
  },
} as const;

export type Role = keyof typeof roleWords;
export const allRoles = Object.keys(roleWords) as Role[];

/** A list without repetitions, in the order of the screens, so that the same roles are always the same text. */
export const rolesSchema = z
  .array(z.enum(allRoles))
  .min(1, 'choose at least one role')
  .max(allRoles.length)
  .transform((roles) => allRoles.filter((role) => roles.includes(role)));
