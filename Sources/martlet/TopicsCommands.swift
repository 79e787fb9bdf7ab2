internal import ArgumentParsing
internal import JSON
internal import Kafka
internal import Martlet
internal import MartletWorker

/// `martlet topics ...`
enum TopicsCommands {
    static let command: Command = Command("topics", "Creates, checks and grows the topics.", children: [create, check, grow])

    private static let create: Command = Command(
        "create", "Creates the topics that are missing; existing ones are left alone.",
        flags: [
            Flag("partitions", "N", "partitions of the lane topics: the most lanes that can work at once", default: "24"),
            Flag("replication-factor", "N", "copies of each partition; as many as there are brokers, up to 3, unless given"),
            Settings.retryTiers,
        ] + Settings.connection,
        examples: [
            ("a single broker", "martlet topics create -b localhost:9092"),
            ("production", "martlet topics create -b kafka-1:9092,kafka-2:9092 --partitions 48 --replication-factor 3"),
        ]
    ) { arguments in
        let terminal = Terminal(arguments)
        let kafka = try Settings.kafka(arguments)
        let admin = try TopicAdmin(kafka)
        let there = try admin.describe()
        let (existing, brokers) = (there.partitions, there.brokers)
        let factor = try arguments.integer("replication-factor", in: 1...100) ?? min(3, brokers)
        guard factor <= brokers else { throw UsageError("--replication-factor \(factor) needs \(factor) brokers; there are \(brokers)") }
        let topics = try Settings.topics(arguments)
        let partitions = try arguments.integer("partitions", in: 1...10_000) ?? 24
        if let n = existing[topics.deliveries], n != partitions, arguments.isGiven("partitions") {
            throw CommandFailure(
                4, "topic '\(topics.deliveries)' exists with \(n) partitions\n  use --partitions \(n), or 'martlet topics grow'")
        }
        let count = existing[topics.deliveries] ?? partitions
        let missing = topics.specifications(partitions: count, replicationFactor: factor, tiers: try Settings.tiers(arguments)).filter {
            existing[$0.name] == nil
        }
        let requests = missing.map { topic in
            TopicAdmin.TopicSpecification(
                topic.name, partitions: topic.partitions, settings: topic.settings.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
        }
        let failures = missing.isEmpty ? [:] : try admin.create(requests, replicationFactor: factor)
        for topic in missing {
            if let error = failures[topic.name] {
                terminal.note("martlet: topic '\(topic.name)' was not created: \(error)")
            } else {
                terminal.print("created \(topic.name) (\(topic.partitions) partition\(topic.partitions == 1 ? "" : "s"))")
            }
        }
        if missing.isEmpty { terminal.note("nothing to do: all topics exist") }
        return failures.isEmpty ? 0 : 1
    }

    private static let check: Command = Command(
        "check", "Compares the topics with what Martlet needs and says what to do.",
        flags: [Settings.retryTiers, Settings.output] + Settings.connection,
        examples: [("before an upgrade", "martlet topics check -b localhost:9092")]
    ) { arguments in
        let terminal = Terminal(arguments)
        let result = try TopicCheck.run(
            try Settings.kafka(arguments), try Settings.topics(arguments), expected: try Settings.tiers(arguments), withSettings: true)
        if arguments.text("output") == "json" {
            let findings = result.findings.map {
                JSONValue.object([
                    .init("topic", .string($0.topic)), .init("problem", .string($0.problem)), .init("fatal", .bool($0.isFatal)),
                ])
            }
            terminal.print(JSONValue.array(findings).prettyText)
        } else {
            for finding in result.findings {
                terminal.print(
                    "\(finding.isFatal ? terminal.paint("wrong", .red) : terminal.paint("risk ", .yellow))  \(finding.topic) \(finding.problem)"
                )
            }
            if let problem = result.settingsProblem {
                terminal.note("only counts were checked, as the brokers don't tell settings: \(problem)")
            }
            if result.findings.isEmpty {
                terminal.print("\(terminal.paint("ok", .green))     all topics are as they should be, \(result.partitions ?? 0) partitions")
            }
        }
        return result.findings.isEmpty ? 0 : 4
    }

    private static let grow: Command = Command(
        "grow", "Raises the partition count of all topics and copies health records home. Stop the workers first.",
        flags: [Flag("partitions", "N", "the new count"), Flag("yes", short: "y", "don't ask")] + Settings.connection,
        examples: [("from 24 to 48, with the workers stopped", "martlet topics grow -b localhost:9092 --partitions 48 --yes")]
    ) { arguments in
        guard let wanted = try arguments.integer("partitions", in: 2...10_000) else { throw UsageError("--partitions is missing") }
        let terminal = Terminal(arguments)
        let kafka = try Settings.kafka(arguments)
        let topics = try Settings.topics(arguments)
        let admin = try TopicAdmin(kafka)
        let counts = try admin.describe().partitions
        let named =
            topics.specifications(partitions: wanted, replicationFactor: 1, tiers: []).map(\.name)
            + counts.keys.filter { $0.hasPrefix(topics.retryPrefix) }
        let mine = Set(named).subtracting([topics.endpoints]).sorted()
        if let missing = mine.first(where: { counts[$0] == nil }) {
            throw CommandFailure(4, "topic '\(missing)' is missing\n  run 'martlet topics create'")
        }
        if let larger = mine.first(where: { (counts[$0] ?? 0) > wanted }) {
            throw CommandFailure(4, "topic '\(larger)' has \(counts[larger] ?? 0) partitions already; Kafka can't take partitions away")
        }
        let growing = mine.filter { counts[$0] != wanted }
        if !arguments.isOn("yes") {
            guard Terminal.inputIsTerminal else { throw UsageError("growing needs the workers stopped; confirm with --yes") }
            terminal.note("This changes the home partition of most endpoints. All workers must be stopped. Type 'yes' to go on:")
            guard readLine() == "yes" else { throw CommandFailure(1, "not confirmed; nothing was changed") }
        }
        // A run that was cut short after the growth still has health records to copy.
        let failures = growing.isEmpty ? [:] : try admin.grow(growing, to: wanted)
        for topic in growing {
            terminal.print(failures[topic].map { "failed \(topic): \($0)" } ?? "grown  \(topic) from \(counts[topic] ?? 0) to \(wanted)")
        }
        guard failures.isEmpty else { return 1 }
        let moved = try HealthMover.moveHome(kafka, topics, partitions: wanted)
        terminal.print(
            "copied \(moved) health record\(moved == 1 ? "" : "s") to the new home partitions; records of other topics are moved by the workers"
        )
        return 0
    }
}
