/** Values of a site's rules in words. */
import { formatSetting, type Setting } from '../../core/config/setting.ts';

/** An empty list or text is said, not shown as nothing. */
export const ruleValue = (rule: Setting, value: unknown): string =>
  formatSetting(rule, value) || (rule.path === 'baseModels' ? 'any' : 'none');
