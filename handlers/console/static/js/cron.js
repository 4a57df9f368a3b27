// The common schedules in words; the others are shown as they are written.

const DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const NUMBER = /^\d{1,2}$/;

/** "Every day at 08:00"; null for what is not that simple. */
export function cronWords(expression) {
  const parts = expression.trim().split(/\s+/);
  if (parts.length !== 5) return null;
  const [minute, hour, day, month, weekday] = parts;
  if (month !== "*") return null;
  const every = /^\*\/(\d{1,2})$/.exec(minute);
  const anyDay = day === "*" && weekday === "*";
  if (every && hour === "*" && anyDay) return `Every ${every[1]} minutes`;
  if (minute === "*" && hour === "*" && anyDay) return "Every minute";
  if (!NUMBER.test(minute)) return null;
  if (hour === "*" && anyDay) return minute === "0" ? "Every hour" : `Every hour at :${two(minute)}`;
  const hours = /^\*\/(\d{1,2})$/.exec(hour);
  if (hours && anyDay) return `Every ${hours[1]} hours`;
  if (!NUMBER.test(hour)) return null;
  const at = `at ${two(hour)}:${two(minute)}`;
  if (anyDay) return `Every day ${at}`;
  if (day === "*" && /^(1-5|mon-fri)$/i.test(weekday)) return `Monday to Friday ${at}`;
  if (day === "*" && /^[0-7]$/.test(weekday)) return `Every ${DAYS[weekday]} ${at}`;
  return NUMBER.test(day) && weekday === "*" ? `On day ${day} of every month ${at}` : null;
}

const two = (number) => number.padStart(2, "0");
