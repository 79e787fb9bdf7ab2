internal import CRdkafka

/// What Kafka or librdkafka refused, with whether trying again can help.
public struct KafkaError: Error, Sendable, Equatable, CustomStringConvertible {
    /// librdkafka's number for the error: positive from the broker's protocol, negative from the client.
    public struct Code: RawRepresentable, Hashable, Sendable {
        public var rawValue: Int32
        public init(rawValue: Int32) { self.rawValue = rawValue }
        public static let unknownTopicOrPartition = Code(rawValue: 3)
        public static let messageTimedOut = Code(rawValue: -192)
        public static let state = Code(rawValue: -172)
        public static let invalidProducerEpoch = Code(rawValue: 47)
        public static let producerFenced = Code(rawValue: 90)
        public static let leaderNotAvailable = Code(rawValue: 5)
        public static let notLeader = Code(rawValue: 6)
        public static let unknownTopic = Code(rawValue: -188)
        public static let unknownPartition = Code(rawValue: -190)
        public static let transport = Code(rawValue: -195)
        public static let allBrokersDown = Code(rawValue: -187)
        public static let timedOut = Code(rawValue: -185)
        public static let queueFull = Code(rawValue: -184)
        public static let invalidArgument = Code(rawValue: -186)
        public static let messageTooLarge = Code(rawValue: 10)
        public static let invalidRecord = Code(rawValue: 87)
        public static let fenced = Code(rawValue: -144)
        public static let fencedInstance = Code(rawValue: 82)
        public static let fatal = Code(rawValue: -150)
        public static let topicAlreadyExists = Code(rawValue: 36)
        public static let maxPollExceeded = Code(rawValue: -147)
        public static let unsupported = Code(rawValue: 35)
        public static let topicAuthorizationFailed = Code(rawValue: 29)
        public static let groupAuthorizationFailed = Code(rawValue: 30)
        public static let clusterAuthorizationFailed = Code(rawValue: 31)
        public static let transactionalIDAuthorizationFailed = Code(rawValue: 53)
        public static let purged = Code(rawValue: -152)
        public static let purgedInFlight = Code(rawValue: -151)
        public static let configuration = Code(rawValue: .min)
    }

    public var code: Code
    public var message: String
    public var isFatal = false

    public init(_ code: Code, _ message: String, isFatal: Bool = false) {
        (self.code, self.message, self.isFatal) = (code, message, isFatal)
    }

    init(_ error: rd_kafka_resp_err_t, _ doing: String) {
        self.init(Code(rawValue: error.rawValue), "\(doing): \(String(cString: rd_kafka_err2str(error)))")
    }

    /// Takes over `error`.
    init(consuming error: OpaquePointer, _ doing: String) {
        let code = rd_kafka_error_code(error)
        self.init(
            Code(rawValue: code.rawValue), "\(doing): \(String(cString: rd_kafka_error_string(error)))",
            isFatal: rd_kafka_error_is_fatal(error) != 0)
        rd_kafka_error_destroy(error)
    }

    /// The record itself is refused: sending it again unchanged can't succeed.
    public var isRefusedRecord: Bool { [.messageTooLarge, .invalidRecord, .invalidArgument].contains(code) }

    /// A leader is being elected or has moved: it passes by itself.
    public var isLeaderChange: Bool { [.leaderNotAvailable, .notLeader].contains(code) }

    /// Another transactional producer with the same id took over, and this one's records were dropped.
    public var isFenced: Bool {
        [.fenced, .purged, .purgedInFlight, .fatal, .state, .invalidProducerEpoch, .producerFenced].contains(code)
    }

    /// The principal lacks a right.
    public var isAuthorization: Bool {
        [.topicAuthorizationFailed, .groupAuthorizationFailed, .clusterAuthorizationFailed, .transactionalIDAuthorizationFailed].contains(
            code)
    }

    public var isUnreachable: Bool { [.transport, .allBrokersDown, .timedOut, .messageTimedOut].contains(code) }
    public var isUnknownTopic: Bool { [.unknownTopicOrPartition, .unknownTopic, .unknownPartition].contains(code) }

    public var description: String { message }
}
