// A GitHub push becomes a message in the form that Slack, Mattermost and Rocket.Chat take.

const SHOWN = 3

export default function transform(event, request) {
  const push = event.data
  const commits = push.commits.filter(c => c.distinct)
  if (commits.length === 0) return drop("no new commits")
  if (commits.every(c => c.author.username?.endsWith("[bot]"))) return drop("only bots pushed")

  const branch = push.ref.replace("refs/heads/", "")
  const lines = commits.slice(0, SHOWN).map(c =>
    `• <${c.url}|${c.id.slice(0, 7)}> ${escape(firstLine(c.message))} (${escape(c.author.name)})`)
  if (commits.length > SHOWN) lines.push(`… and ${commits.length - SHOWN} more`)

  request.headers["X-GitHub-Delivery"] = event.headers["X-GitHub-Delivery"]
  return {
    text: `${escape(push.pusher.name)} ${push.forced ? "force-pushed" : "pushed"} ${commits.length} ` +
      `${commits.length === 1 ? "commit" : "commits"} to ${push.repository.full_name}:${branch}`,
    attachments: [{ color: push.forced ? "danger" : "good", text: lines.join("\n"), title_link: push.compare }],
  }
}

const firstLine = text => text.split("\n", 1)[0]

// The three characters that have a meaning in such messages.
const escape = text => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;")
